"""Where the tests of the pages depart from them: substitutions, commands that no test can run, and what lies there.

Everything else runs as it is written. Keep this short: an entry here is something that a reader has to believe.
"""

# (pattern, replacement): what no test machine has.
SUBSTITUTIONS = [
    (r"--num-gpus 8", "--num-gpus 2"),  # two processes on the CPU
    (r"--gpus 0", ""),
    (r"INIT_TILES \d+", "INIT_TILES 3"),
    (r"INIT 1200(.*)QUERY 3600", r"INIT 100\1QUERY 60"),  # seconds, of fewer tiles
    (r"MIN_ITERS \d+", "MIN_ITERS 2"),
    (r"--jobs \d", "--jobs 1"),
    (r"--tiles 300", "--tiles 24 --size 96"),
    (r"rounds/002/gallery", "rounds/000/gallery"),  # of fewer rounds
    (r"--tile 250", "--tile 120"),  # of images of 240 pixels
    (r"--repeats 12 --tiles 24 --train-steps 60", "--repeats 1 --tiles 4 --train-steps 2"),
]

# (pattern, why not): test_commands.py holds them to the options and keys that exist.
NOT_RUN = [
    (
        r"pip install",
        "needs a package index and changes the environment; tests/packaging installs from a folder",
    ),
    (r"make (test|test-slow|lint)\b", "runs the suite that this test is in, or lints it"),
    (r"make docs", "fetches packages; tests/docs/test_site.py"),
    (
        r"-m pytest( -n 2 | tests/(data|strategies|modeling)| -m slow )",
        "runs parts of the suite that this test is in",
    ),
    (
        r"make bundle|bundle/py312",
        "collects 3 GB of wheels; tests/packaging/test_bundle.py does it with made-up ones",
    ),
    (r"make matrix|version_matrix.py --comb", "makes environments; tests/tools/test_version_matrix.py"),
    (
        r"--nnodes 2|--num-machines 2|scontrol",
        "two machines; tests/engine/test_launchers.py starts both on one",
    ),
    (r"^mkdir -p datasets/weights", "weights that are not ours to give; the miniature trains from none"),
    (
        r"benchmarks/(screening|judge).py|localiser_data",
        "hours of a comparison on all of CoNSeP; tests/benchmark/test_screening.py runs its steps",
    ),
    (r"--cluster slurm", "a cluster; tests/benchmark/test_cluster.py has a small one"),
    (r"campaign sync|^label-studio", "a server of Label Studio; tests/campaign/test_label_studio.py has one"),
    (r"uncertainty_quality.py RUN \.\.\.", "RUN stands for a run"),
]

# Page -> (before the command that has this in it, what the page takes as given).
MINE = """cat > my.yaml <<'END'
_BASE_: "configs/quickstart.yaml"
END
"""
REGIONS = "mkdir slides/regions && cp slides/*.png slides/regions\n"
ANSWER = "python tests/docs/answer_batch.py {run} {truth} labelled.json\n"
SYNTHETIC = "datasets/synthetic/annotations/random_fold1_train.json"
GIVEN = {
    "README": [
        ("train --config-file mine.yaml", "python tests/docs/clone.py mine.yaml\n"),
        (
            "run import output/mine",
            # The run before had its labels; this one has to ask.
            "rm -r output/mine; echo 'OSAL: {ORACLE: {NAME: human}}\n_BASE_: small.yaml' > people.yaml\n"
            "mv mine.yaml small.yaml; mv people.yaml mine.yaml\n"
            "osal train --config-file mine.yaml\n"
            + ANSWER.format(run="output/mine", truth="tiles/train.json"),
        ),
        ("--images FOLDER", "cp -r slides FOLDER\n"),
    ],
    "human_oracle": [
        ("OUTPUT_DIR output/run1", MINE),
        (
            "run import output/run1",
            ANSWER.format(run="output/run1", truth=SYNTHETIC)
            # Ben overlooks a nucleus.
            + ANSWER.format(run="output/run1", truth=SYNTHETIC).replace(
                "labelled.json", "output/run1/rounds/init/query/batch.json 1"
            ),
        ),
    ],
    "annotation_tools": [
        (
            "--format label-studio",
            MINE + "osal train --config-file my.yaml OSAL.ORACLE.NAME human OUTPUT_DIR output/run1\n",
        ),
        (
            "project-1.json --dry-run",
            "python tests/docs/answer_tasks.py batches/label_studio project-1.json\n",
        ),
        ("job_1.zip", "python -m zipfile -c job_1.zip batches/cvat/annotations.xml\n"),
    ],
    "campaign": [
        ("campaign init lung", "mkdir scans && cp datasets/synthetic/rgb/*.png scans\n"),
        ("job_1.zip", "python -m zipfile -c job_1.zip batches/first/annotations.xml\n"),
    ],
    "studies": [
        (
            "annotators lung/first",
            "".join(
                f"osal train --config-file configs/quickstart.yaml {words} OUTPUT_DIR {run} OSAL.STRATEGY random\n"
                for run, words in (
                    ("lung/first", "OSAL.ORACLE.NAME human"),
                    ("output/run1", "OSAL.ORACLE.NAME imperfect"),
                )
            )
            + ANSWER.format(run="lung/first", truth=SYNTHETIC)
            + "osal run import lung/first labelled.json --annotator anna\n"
            + ANSWER.format(run="lung/first", truth=SYNTHETIC).replace("labelled.json", "again.json 1")
            + "osal run import lung/first again.json --annotator ben\n"
            + f"cp {SYNTHETIC} expert.json\n",
        )
    ],
    "training": [("my.yaml", MINE), ("model_final.pth", "cp output/first/model_final.pth .\n")],
    "lazy_config": [("predict output/lazy", REGIONS)],
    "data_coco": [("train --config-file consep.yaml", "python tests/docs/clone.py consep.yaml\n")],
    "predict": [
        (
            "predict output/quickstart --images",
            # Of Detectron2's own backbones, since the page reads the exported detector without this package.
            "osal train --config-file configs/quickstart.yaml OUTPUT_DIR output/quickstart "
            "MODEL.BACKBONE.NAME build_resnet_fpn_backbone MODEL.RESNETS.WIDTH_PER_GROUP 4 "
            "MODEL.RESNETS.STEM_OUT_CHANNELS 8 MODEL.RESNETS.RES2_OUT_CHANNELS 16\n" + REGIONS,
        ),
        (
            "--json tiles/test.json",
            "osal data tile --json slides/test.json --image-root slides --out tiles --tile 120\n",
        ),
    ],
    "benchmark": [
        (
            "consep.yaml --output output/bench --jobs",
            "osal data tile --json consep/train.json consep/test.json --image-root consep/images --tile 120 "
            "--out datasets/consep_tiles\n",
        ),
        ("C.yaml", MINE + "mv my.yaml C.yaml\n"),
    ],
    "benchmark_figures": [
        (
            "plot output/grid",
            "mkdir -p output/grid\ncp -r benchmarks/consep_two_cores/results output/grid\n",
        ),
        (
            "run detections output/osal_nd",
            "for run in osal_nd random count_all; do osal train --config-file configs/quickstart.yaml "
            "OSAL.STRATEGY $run OUTPUT_DIR output/$run; done\n",
        ),
    ],
    "report": [
        (
            "run report output/quickstart",
            "osal train --config-file configs/quickstart.yaml OUTPUT_DIR output/quickstart OSAL.EVAL.CURVES False\n",
        )
    ],
    "evaluation": [
        (
            "run report output/osal_nd_seed0",
            "for run in osal_nd_seed0 random_seed0; do osal train --config-file configs/quickstart.yaml "
            "OSAL.STRATEGY ${run%_seed0} OUTPUT_DIR output/$run; done\n",
        )
    ],
}

RECORDS = "from osal_detectron2.data.coco import load_open_set_coco, register_open_set_coco"
TEST = "datasets/synthetic/annotations/random_fold1_test.json"
# Page -> what its Python code takes as given.
BEFORE_PYTHON = {
    "README": "from detectron2.config import get_cfg",
    "install": "from detectron2.config import get_cfg",
    "predict": "import torch; image = torch.zeros(3, 240, 240)",
    "evaluation": f"""{RECORDS}
records = load_open_set_coco({TEST!r}, "datasets/synthetic/rgb", ["tumor", "lymphocyte"])
""",
    "models": f"""from detectron2.config import get_cfg
{RECORDS}
register_open_set_coco("my_train", {TEST!r}, "datasets/synthetic/rgb", ["tumor", "lymphocyte"])
""",
}

# Page -> name under which it says to save its Python code.
SAVED_AS = {"strategies": "my_train.py"}

# Page -> files that it promises, and what stands in them.
RESULTS = {
    "benchmark": ["output/two_cores/results", "output/a/round_0.pth", "output/b/curves.png"],
    "benchmark_figures": ["output/grid/figures/fig2_map.pdf", "output/few/table.md", "output/fig5.png"],
    "benchmarks": ["output/two_cores/results", "output/equal_boxes/results", "output/nucls/results"],
    "report": ["output/quickstart/report.html", "output/quickstart/appearance.npz"],
    "training": [
        "output/first/curves.png",
        "output/first/report.html",
        "output/first/model_final.pth",
        "output/osal_nd_seed2/curve.csv",
    ],
    "lazy_config": ["output/lazy/config.yaml", "output/vitdet/model_final.pth", "output/cascade/report.html"],
    "human_oracle": ["output/run1/rounds/init/commit.json", "output/run1/rounds/000/query/README.txt"],
    "data_coco": ["tiles/train.json", "tiles/test.json", "output/consep/curves.png"],
    "predict": [
        *(
            f"predictions/{name}"
            for name in ("detections.json", "images.json", "geojson", "geojson_parents", "overlays")
        ),
        *(f"exported/{name}" for name in ("model.pth", "config.yaml", "model.ts", "metadata.json")),
    ],
    "studies": ["output/annotators/results"],
    "evaluation": ["output/osal_nd_seed0/summary.json", "output/comparison/comparison.png"],
    "strategies": ["output/mine/rounds/000/selection.json with mean entropy"],
    "backbones": ["output/convnext/curves.png"],
    "plug_in_head": ["output/cascade/curves.png"],
    "README": [
        "output/quickstart/curves.png",
        "output/quickstart/rounds/000/gallery.png",
        "tiles/train.json",
        "output/mine/rounds/init/commit.json",
        "output/mine/rounds/000/query/batch.json",
        "predictions/detections.json",
        "exported/model.ts",
    ],
}
