"""Cell files made by hand: three rounds, two queries."""

import json


def make_cell(folder, method="osal_nd", *, setting="5+2", fold=0, seed=0, maps=(20.0, 30.0, 40.0), **changes):
    """Write one cell file and return its path. Labelled: 10, 30, 50 % of 100 tiles; 80 known of 100 a query."""
    rounds = []
    for number, value in enumerate(maps):
        asks = number < len(maps) - 1
        rounds.append(
            {
                "round": number,
                "labelled_tiles": 10 + 20 * number,
                "labelled_fraction": 0.1 + 0.2 * number,
                "mAP50": value,
                "known_queried": 80 if asks else None,
                "unknown_queried": 20 if asks else None,
                "known_cumulative": 80 * (number + asks),
                "unknown_cumulative": 20 * (number + asks),
                "nuclei_annotated": 50 + 100 * number,
                "known_annotated": 40 + 80 * number,
                "purity": 0.8 if asks else None,
                "seconds": {"train": 10.0, "score": 2.0} if asks else {"train": 10.0},
                **({"passes": {"target": {"pool": 90}, "auxiliary": 30}} if asks else {}),
            }
        )
    if method == "full":
        rounds[0]["labelled_fraction"] = 1.0
    content = {
        "schema": "osal-cell/1",
        "method": method,
        "setting": setting,
        "fold": fold,
        "seed": seed,
        "strategy": method,
        "config_sha256": "a" * 64,
        "commit": "c" * 40,
        "versions": {"torch": "2"},
        "hardware": {"cpu": "x"},
        "known_classes": ["tumor", "lymphocyte"],
        "unknown_classes": ["other"],
        "train_tiles": 100,
        "rounds": rounds,
        "aulc": None,
        "final_mAP50": maps[-1],
    }
    path = folder / f"{setting}-{fold}-{method}-{seed}.json"
    path.write_text(json.dumps({key: v for key, v in (content | changes).items() if v != "DROP"}))
    return path
