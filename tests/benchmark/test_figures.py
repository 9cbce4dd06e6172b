"""The figures show what the cells say: panels, lines, bars, names."""

import pytest
from cell_files import make_cell
from PIL import Image

from osal_detectron2.benchmark.figures import (
    FIGURES,
    draw_all,
    draw_curves,
    draw_seconds,
    render,
)
from osal_detectron2.benchmark.layout import COLUMN, PAGE
from osal_detectron2.benchmark.results import read_cells
from osal_detectron2.benchmark.styles import ABLATIONS, STYLES, setting_title, styles_of
from osal_detectron2.core.errors import ConfigError


@pytest.fixture
def cells(tmp_path):
    for setting in ("5+2", "3+4"):
        for seed in (0, 1):
            make_cell(tmp_path, setting=setting, seed=seed, maps=(20.0, 30.0 + 2 * seed, 40.0))
            make_cell(tmp_path, "random", setting=setting, seed=seed)
            make_cell(tmp_path, "my_rule", setting=setting, seed=seed)
            make_cell(tmp_path, "utss", setting=setting, seed=seed)
        make_cell(tmp_path, "full", setting=setting, maps=(45.0,))
        make_cell(tmp_path, "initial_only", setting=setting, maps=(21.0,))
    return read_cells(tmp_path)


def lines(axes):
    """{label: line} of the curves, without error bars."""
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_a_panel_a_setting_and_a_line_a_method(cells):
    figure = draw_curves(cells, FIGURES["fig2_map"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["3+4", "5+2"]
    for axes in figure.axes:
        drawn = lines(axes)
        assert list(drawn) == ["OSAL-ND", "Random", "my rule", "Full annotation", "Initial tiles only"]
        assert list(drawn["OSAL-ND"].get_ydata()) == [20.0, 31.0, 40.0]
        assert list(drawn["OSAL-ND"].get_xdata()) == pytest.approx([10, 30, 50])
        assert list(drawn["Full annotation"].get_ydata()) == [45.0, 45.0]
        assert list(drawn["Initial tiles only"].get_ydata()) == [21.0, 21.0]
    assert [text.get_text() for text in figure.legends[0].get_texts()].count("OSAL-ND") == 1
    assert figure.axes[0].get_ylabel() == "mAP50, known classes (%)" and not figure.axes[1].get_ylabel()
    assert figure.get_figwidth() == PAGE


def test_bars_are_one_sample_standard_deviation(cells):
    axes = draw_curves(cells, FIGURES["fig2_map"]).axes[0]
    (bars,) = [c for c in axes.collections if c.get_zorder() == 3]  # those of the emphasised method
    low, high = bars.get_segments()[1][:, 1]
    assert (high - low) / 2 == pytest.approx(2**0.5)


def test_ablations_are_apart_and_absent_without_cells(cells, tmp_path):
    figure = draw_curves(cells, FIGURES["fig4_ablations"])
    assert list(lines(figure.axes[0])) == ["OSAL-ND", "UTSS", "Full annotation", "Initial tiles only"]
    few = [cell for cell in cells if cell.method != "utss"]
    assert draw_curves(few, FIGURES["fig4_ablations"]) is None
    assert not any("ablations" in path.name for path in draw_all(few, tmp_path / "out"))


def test_variations_are_apart_with_what_they_vary_and_every_legend_fits(cells, tmp_path):
    few = tmp_path / "varied"
    few.mkdir()
    names = (
        "osal_nd_with_long_words",
        "osal_nd_plus_shared",
        "random_shared",
        "utss_x",
    )  # osal_nd_plus was not run
    for name in ("osal_nd", "random", "laal_three_in_one", "utss", "full", *names):
        make_cell(few, name, setting="3+4", maps=(45.0,) if name == "full" else (20.0, 30.0, 40.0))
    make_cell(few, "osal_nd", setting="5+2")
    varied = read_cells(few)
    labels = {n: list(lines(draw_curves(varied, FIGURES[n]).axes[0])) for n in ("fig2_map", "fig4_ablations")}
    assert labels["fig2_map"] == [
        "OSAL-ND",
        "Random",
        "LAAL three in one",
        "OSAL-ND+ shared",
        "Full annotation",
    ]
    assert labels["fig4_ablations"] == ["OSAL-ND", "UTSS", "Full annotation"]
    figure = draw_curves(varied, FIGURES["variations"])
    assert len(figure.axes) == 1, "a setting without variations has no panel"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "OSAL-ND", "Random", "UTSS", "OSAL-ND with long words", "Random shared", "UTSS x", "Full annotation"
    ]  # fmt: skip
    for group in (cells, varied):
        for what in FIGURES.values():
            if figure := draw_curves(group, what):
                figure.draw_without_rendering()
                box = figure.legends[0].get_window_extent()
                assert 0 <= box.x0 and box.x1 <= figure.bbox.x1, what
    assert draw_curves(cells, FIGURES["variations"]) is None


def test_queries_stand_where_their_tiles_are_labelled(cells):
    axes = draw_curves(cells, FIGURES["fig3_known_queried"]).axes[0]
    assert list(lines(axes)["OSAL-ND"].get_xdata()) == pytest.approx([30, 50])
    assert list(lines(axes)["OSAL-ND"].get_ydata()) == [80, 160]
    axes = draw_curves(cells, FIGURES["map_per_box"]).axes[0]
    assert list(lines(axes)["Random"].get_xdata()) == [50, 150, 250]
    axes = draw_curves(cells, FIGURES["map_per_minute"]).axes[0]
    # 10, 30, 50 tiles of 15 s, 50, 150, 250 nuclei of 3 s: worked out, since files of older versions do not say.
    assert list(lines(axes)["Random"].get_xdata()) == [5, 15, 25]
    axes = draw_curves(cells, FIGURES["map_per_known_box"]).axes[0]
    assert list(lines(axes)["Random"].get_xdata()) == [40, 120, 200]


def test_one_setting_fits_a_column_and_missing_columns_leave_a_figure_out(tmp_path):
    make_cell(tmp_path, maps=(20.0,))  # a single round queries nothing
    cells = read_cells(tmp_path)
    assert draw_curves(cells, FIGURES["fig2_map"]).get_figwidth() == COLUMN
    assert draw_curves(cells, FIGURES["purity"]) is None


def test_seconds_are_stacked_means_over_rounds(cells):
    (axes,) = draw_seconds(cells).axes
    widths = {container.get_label(): container[0].get_width() for container in axes.containers}
    assert widths == pytest.approx({"train": 10.0, "score": 4 / 3})
    assert [label.get_text() for label in axes.get_yticklabels()] == ["OSAL-ND", "Random", "UTSS", "my rule"]


def test_files_are_print_resolution_and_repeatable(cells, tmp_path):
    paths = draw_all(cells, tmp_path / "figures", formats=["png", "pdf"])
    assert {path.suffix for path in paths} == {".png", ".pdf"}
    with Image.open(tmp_path / "figures" / "fig2_map.png") as image:
        assert image.width == round(300 * PAGE)
    figure = draw_curves(cells, FIGURES["fig2_map"])
    assert render(figure, "svg") == render(draw_curves(cells, FIGURES["fig2_map"]), "svg")
    with pytest.raises(ConfigError, match="--format: 'gif'"):
        draw_all(cells, tmp_path, formats=["gif"])


def test_no_two_methods_of_a_figure_look_alike():
    new = [f"new_{i}" for i in range(20)]
    for group in ([m for m in STYLES if m not in ABLATIONS], ["osal_nd", *ABLATIONS]):
        styles = styles_of([*group, *new]).values()
        assert len({(s.color, s.marker) for s in styles}) == len(styles)
        assert len({(s.marker, str(s.line)) for s in styles_of(group).values()}) == len(
            group
        )  # without colour
    assert [setting_title(name) for name in ("5_2", "3+4", "by_slide")] == ["5+2", "3+4", "by slide"]
    assert list(styles_of(["full", "zebra", "random"])) == ["random", "zebra", "full"]
    assert styles_of(["random_shared"])["random_shared"].label == "Random shared"
    assert styles_of(["osal_nd_wo_ci_x"])["osal_nd_wo_ci_x"].label == "w/o CI x"
