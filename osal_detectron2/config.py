"""Every key that osal_detectron2 adds to a Detectron2 config, in one place.

`add_osal_config(cfg)` changes only the config that it is given, never Detectron2's global defaults.
Section numbers refer to the methods specification that docs/reproducibility.md summarises.
"""

from dataclasses import asdict

from detectron2.config import CfgNode as CN

from .core.annotator import Skill
from .renamed import accept_old_keys
from .strategies import setting_nodes


def add_osal_config(cfg: CN) -> None:
    """Add the node `OSAL` and the model keys below to `cfg`, in place."""
    cfg.OSAL = CN()
    # Seeds everything: initial tiles, weights, data order, augmentation, ties. Not cfg.SEED, which Detectron2
    # reads only once at start-up: our streams are derived from (seed, purpose, iteration) and survive a resume.
    cfg.OSAL.SEED = 0
    # One of osal_detectron2.strategies.available(), e.g. osal_nd, osal_nd_wo_ci, osal_nd_wo_li, utss, pcss,
    # random, count_all.
    cfg.OSAL.STRATEGY = "osal_nd"

    # ---- data -------------------------------------------------------------------------------------------
    cfg.OSAL.DATA = CN()
    # Known classes, in the order of the detector's outputs. Needed with the *_JSON keys below; data sets that
    # are already registered (nucls_*, register_open_set_coco) bring their own and this stays empty.
    cfg.OSAL.DATA.KNOWN_CLASSES = []
    # A COCO data set from config alone: these four register osal_train / osal_test and fill DATASETS.*. Without a
    # test set the rounds run as they do with one, and nothing is said about how good the detector is.
    cfg.OSAL.DATA.TRAIN_JSON = ""
    cfg.OSAL.DATA.TRAIN_IMAGE_ROOT = ""
    cfg.OSAL.DATA.TEST_JSON = ""
    cfg.OSAL.DATA.TEST_IMAGE_ROOT = ""
    # The folder of the record with the labels of the test tiles (`osal campaign`): they count from the round on in
    # which they are there, and those of the JSON do not.
    cfg.OSAL.DATA.TEST_RECORD = ""
    # Unknown nuclei in the target's training tiles. "drop": not annotated, hence background in RPN and ROI
    # (the protocol of the open-set detection literature); "ignore": excluded from both losses (needs OSALRCNN);
    # "class": learnt as one more class, "classes": each under its own name. The target never shows what it takes
    # for one of these (modeling/unknown.py; needs open-set ROI heads). Section 6 row 3.
    cfg.OSAL.DATA.UNKNOWN_POLICY = "drop"
    # Names of the unknown classes, for "classes" alone. A run fills them in from the data.
    cfg.OSAL.DATA.UNKNOWN_CLASSES = []
    # Random flips along both axes: nuclei have no orientation.
    cfg.OSAL.DATA.FLIPS = True
    # Keep decoded images in memory after the first read (tiles are small; a pool is read many times).
    cfg.OSAL.DATA.CACHE_IMAGES = False

    # ---- budget and schedule ----------------------------------------------------------------------------
    cfg.OSAL.BUDGET = CN()
    # What the budget is counted in: "tiles", "nuclei", or "seconds" of annotation (OSAL.ORACLE.SECONDS_*). A query of
    # nuclei or seconds takes tiles in the strategy's order up to its price, by what they are expected to cost; what
    # has truly been spent is settled with the next query. docs/strategies.md#a-budget-in-minutes.
    cfg.OSAL.BUDGET.UNIT = "tiles"
    # The initial set and a query in that unit; 0 means: from the numbers of tiles below, each at the price of a tile
    # with NUCLEI_PER_TILE nuclei. The number of iterations of a round follows from tiles of that price, too.
    cfg.OSAL.BUDGET.INIT = 0.0
    cfg.OSAL.BUDGET.QUERY = 0.0
    # Nuclei of a tile, while nothing is labelled; 0 means: the mean of the training set where its labels answer, 30
    # where people do (250 px tiles of CoNSeP at 40x hold 36).
    cfg.OSAL.BUDGET.NUCLEI_PER_TILE = 0.0
    # Fractions of the training tiles; counts are round-half-up and at least one tile. Section 6 rows 12-14.
    cfg.OSAL.BUDGET.INIT_FRACTION = 0.05
    cfg.OSAL.BUDGET.QUERY_FRACTION = 0.15
    # Absolute numbers of tiles; 0 means: use the fraction.
    cfg.OSAL.BUDGET.INIT_TILES = 0
    cfg.OSAL.BUDGET.QUERY_TILES = 0
    # Queries; the detector is trained NUM_QUERIES + 1 times. 5: labelled 5, 20, 35, 50, 65, 80 %.
    cfg.OSAL.BUDGET.NUM_QUERIES = 5
    # A text file with one tile (file_name of the COCO JSON) a line: start from these, already labelled in the
    # JSON, instead of a random draw.
    cfg.OSAL.BUDGET.INIT_FILE = ""

    cfg.OSAL.SCHEDULE = CN()
    # Iterations of a round = max(MIN_ITERS, ceil(EPOCHS * labelled tiles / IMS_PER_BATCH)), the same rule for
    # every strategy. SOLVER.MAX_ITER is computed from it. Section 1.7.
    cfg.OSAL.SCHEDULE.EPOCHS = 26.0
    cfg.OSAL.SCHEDULE.MIN_ITERS = 1000
    # "initial": every round starts from the same weights; "continue": from those of the round before.
    cfg.OSAL.SCHEDULE.WEIGHTS_PER_ROUND = "initial"
    # The learning rate restarts each round: linear warm-up over SOLVER.WARMUP_ITERS (at most a fifth of the
    # round), then "step" (x SOLVER.GAMMA at LR_STEPS, as fractions of the round) or "cosine".
    cfg.OSAL.SCHEDULE.LR = "step"
    cfg.OSAL.SCHEDULE.LR_STEPS = (0.7, 0.9)
    # Rounds whose detector is kept as OUTPUT_DIR/round_<r>.pth, e.g. (0,); (-1,) keeps all.
    cfg.OSAL.SCHEDULE.KEEP_ROUNDS = ()
    # The round_0.pth of a run that differs in the strategy alone: round 0 is taken from there, not trained. The result
    # is the same; a file of another recipe is refused.
    cfg.OSAL.SCHEDULE.ROUND_0 = ""

    # ---- the unlabelled tiles ---------------------------------------------------------------------------
    # A mean teacher: detections of the running mean of the target on pool tiles teach the target on strongly augmented
    # views of them. Needs open-set ROI heads and an RPN; twice to three times the time of a step. docs/training.md.
    cfg.OSAL.SEMI = CN()
    cfg.OSAL.SEMI.ENABLED = False
    # Pool tiles in a step, over all processes; 0: as many as SOLVER.IMS_PER_BATCH labelled ones. The losses are means
    # over all regions of a batch, so this is also the weight of what the teacher says.
    cfg.OSAL.SEMI.POOL_TILES = 0
    # Decay of the running mean, a step; less in the first steps of a round.
    cfg.OSAL.SEMI.EMA = 0.999
    # Fraction of a round before the teacher teaches: what it knows of a new round's labels has to be learnt first.
    cfg.OSAL.SEMI.BURN_IN = 0.3
    # The teacher's detections from this score on are labels, unless they look unknown.
    cfg.OSAL.SEMI.SCORE_THRESH = 0.7
    # The others from this score on, and what looks unknown, are neither positives nor negatives.
    cfg.OSAL.SEMI.FLOOR = 0.1

    # ---- scoring and selection --------------------------------------------------------------------------
    cfg.OSAL.SCORING = CN()
    # Tiles in one forward pass of the pool, per process. Has no influence on what is selected.
    cfg.OSAL.SCORING.BATCH_SIZE = 8
    # Target detections below this score take no part in what a strategy computes, e.g. Eqs. 5 and 6 (not below
    # ROI_HEADS.SCORE_THRESH_TEST).
    cfg.OSAL.SCORING.SCORE_THRESH = 0.05
    # Strategies see one box of the target a nucleus, by a class-agnostic NMS at IoU .5, however many classes it is
    # taken for; without it one box a class (the detector's own NMS), so that a nucleus it wavers on counts twice.
    cfg.OSAL.SCORING.ONE_BOX_PER_NUCLEUS = False
    # Strategies that look at the target's detections see those alone that lie (IoU .5) on an auxiliary detection which
    # looks known: nearer to the known prototype, or for LfOSA of a known class. Those without an auxiliary get one.
    cfg.OSAL.SCORING.KNOWN_BOXES_ONLY = False

    # Settings of the strategies: OSAL.PCSS, OSAL.CALD and so on, one node for each that has any. What their keys mean
    # stands where they are read, in the dataclass ...Settings of each file of osal_detectron2/strategies.
    for node, defaults in setting_nodes().items():
        cfg.OSAL[node] = CN({key.upper(): value for key, value in defaults.items()})

    # ---- oracle -----------------------------------------------------------------------------------------
    cfg.OSAL.ORACLE = CN()
    # "simulated": the labels hidden in the JSON; "imperfect": these, with errors and times; "human": export a batch,
    # stop with exit code 0, import with `osal run import`, go on with --resume.
    cfg.OSAL.ORACLE.NAME = "simulated"
    # What annotation costs, for all that is said of time: seconds to open a tile and to mark a nucleus in it (a click
    # and a class with a size that is mostly right; no published time of opening was found. A box by four extreme
    # points takes 7 s, Papadopoulos et al., ICCV 2017) ...
    cfg.OSAL.ORACLE.SECONDS_PER_NUCLEUS = 3.0
    cfg.OSAL.ORACLE.SECONDS_PER_TILE = 15.0
    # ... and, where drafts lie before people, to confirm one that is right and to correct or delete one that is not
    # (assumptions; to verify a box that is shown alone takes 1.6 s, Papadopoulos et al., CVPR 2016). `osal run cost`
    # fits all four to the times that a tool measured.
    cfg.OSAL.ORACLE.SECONDS_PER_CONFIRMATION = 1.0
    cfg.OSAL.ORACLE.SECONDS_PER_CORRECTION = 4.0
    # Detections from this score on are the drafts that people correct: the target's, and as unknown nuclei the
    # auxiliary's. A box too many costs a look and a click, as one too few does.
    cfg.OSAL.ORACLE.DRAFT_SCORE = 0.3
    # Put copies of the images of a batch into its folder, to hand it on whole.
    cfg.OSAL.ORACLE.COPY_IMAGES = False
    # With "human" and BUDGET.INIT_FILE: the folder of the record that holds the labels of the initial tiles
    # (`osal campaign`). Without it they are those of the JSON.
    cfg.OSAL.ORACLE.INIT_RECORD = ""

    # How the annotators of "imperfect" err; what the keys mean stands in `Skill` of core/annotator.py. docs/studies.md.
    cfg.OSAL.ORACLE.IMPERFECT = CN({key.upper(): value for key, value in asdict(Skill()).items()})

    # ---- evaluation -------------------------------------------------------------------------------------
    cfg.OSAL.EVAL = CN()
    # Unknown nuclei at test time: "fp" detections on them are false positives, "ignore" COCO ignore regions.
    cfg.OSAL.EVAL.UNKNOWN = "fp"
    # A detection on an unknown nucleus counts for A-OSE at or above this score.
    cfg.OSAL.EVAL.AOSE_SCORE_THRESH = 0.5
    # Queried tiles drawn in the gallery of each round; 0 draws none.
    cfg.OSAL.EVAL.GALLERY_TILES = 12
    # Draw curves.png and write report.html after each round, some seconds on a CPU. Without, `osal run report RUN` does
    # it at any time.
    cfg.OSAL.EVAL.CURVES = True

    # ---- models -----------------------------------------------------------------------------------------
    # The two detectors of OSALRCNN. The target takes MODEL.ROI_HEADS.NAME; the auxiliary this one.
    cfg.OSAL.AUXILIARY = CN()
    cfg.OSAL.AUXILIARY.ROI_HEADS_NAME = "OpenSetStandardROIHeads"
    # Box branches of open-set ROI heads, by name: what they learn and add to detections besides classes and boxes
    # (modeling/box_branch.py). Those of the target, or of the one detector there is, and those of the auxiliary (LfOSA
    # sets none).
    cfg.MODEL.ROI_HEADS.BOX_BRANCHES = ["EvidentialBranch"]
    cfg.OSAL.AUXILIARY.BOX_BRANCHES = ["PrototypeBranch"]
    # Its backbone: "own" [paper]; "shared", the target's, trained by the losses of both, or "detached", the target's,
    # trained by the target's losses alone. See docs/models.md.
    cfg.OSAL.AUXILIARY.BACKBONE = "own"
    # What the auxiliary learns: "known_unknown", two classes; "k_plus_one", each known class and one for the unknown
    # nuclei (LfOSA sets it; PCSS.COUNT_RULE label and both go with known_unknown only).
    cfg.OSAL.AUXILIARY.CLASSES = "known_unknown"
    # Its detections below this score do not count. Section 2.3.
    cfg.OSAL.AUXILIARY.SCORE_THRESH = 0.3
    # "class_agnostic": one nucleus detected as known and as unknown is one detection; "per_class".
    cfg.OSAL.AUXILIARY.NMS = "class_agnostic"
    # T of the auxiliary's classifier: loss CE(h / T), scores softmax(h / T). LfOSA sets 0.5. Section 3.7.
    cfg.OSAL.AUXILIARY.TEMPERATURE = 1.0

    cfg.OSAL.PROTOTYPE = CN()
    # "learnable" parameters, "ema" of batch class means, "mean" of all features so far. Section 2.4.
    cfg.OSAL.PROTOTYPE.MODE = "learnable"
    # Margin Delta of Eq. 2. Meaningless on unit-norm features, see NORM.
    cfg.OSAL.PROTOTYPE.MARGIN = 10.0
    # True: Delta is the distance of the two classes' running mean features at the end of the warm-up instead, in
    # training and in the refit. A margin far above it drives the prototype of a rare class out of reach.
    cfg.OSAL.PROTOTYPE.TIED_MARGIN = False
    # Weight of the prototype loss, a mean over foreground RoIs.
    cfg.OSAL.PROTOTYPE.WEIGHT = 0.1
    # Learning rate of the prototypes relative to SOLVER.BASE_LR (no weight decay). 1 does not converge.
    cfg.OSAL.PROTOTYPE.LR_FACTOR = 25.0
    # No prototype loss during max(WARMUP_ITERS, WARMUP_FRACTION * round); then start from class means.
    cfg.OSAL.PROTOTYPE.WARMUP_ITERS = 100
    cfg.OSAL.PROTOTYPE.WARMUP_FRACTION = 0.1
    # Momentum of the running class means (mode "ema" and the initialisation).
    cfg.OSAL.PROTOTYPE.MOMENTUM = 0.99
    # Before a query, minimise the summed loss over all labelled nuclei with the detector frozen [paper].
    cfg.OSAL.PROTOTYPE.REFIT = True
    # "none": raw box-head features; "scaled": 10 * f / |f|.
    cfg.OSAL.PROTOTYPE.NORM = "none"
    # Weigh known and unknown RoIs equally, in the loss and in the refit, instead of each RoI. Where unknown nuclei are
    # rare, the margin otherwise drives their prototype out of reach and nothing looks unknown.
    cfg.OSAL.PROTOTYPE.BALANCED = False

    cfg.OSAL.EVIDENCE = CN()
    # "posthoc": ReLU of the K known-class logits of the ordinary classifier, at inference only [paper, literal];
    # "branch": a K-way evidential branch on detached features, trained on foreground with the TMC loss;
    # "edl": the classifier itself is evidential over K + 1 classes (raise SCORE_THRESH_TEST to 0.3). Section 2.6.
    cfg.OSAL.EVIDENCE.MODE = "posthoc"
    # Evidence activation of "branch" and "edl": softplus, relu or exp.
    cfg.OSAL.EVIDENCE.ACTIVATION = "softplus"
    cfg.OSAL.EVIDENCE.WEIGHT = 1.0
    # With "branch": train on background regions, too, whose evidence is to be zero for every class; else the layer has
    # never seen what junk boxes hold. Unknown nuclei are background under UNKNOWN_POLICY drop.
    cfg.OSAL.EVIDENCE.BACKGROUND = False
    # The KL term of the TMC loss grows from 0 to KL_WEIGHT over this fraction of the round.
    cfg.OSAL.EVIDENCE.KL_WEIGHT = 1.0
    cfg.OSAL.EVIDENCE.ANNEAL_FRACTION = 0.1

    # A torchvision classification network as an FPN backbone (MODEL.BACKBONE.NAME: build_torchvision_fpn_backbone).
    cfg.MODEL.TORCHVISION = CN()
    # Name of the constructor in torchvision.models, e.g. mobilenet_v2, resnet18, efficientnet_b0.
    cfg.MODEL.TORCHVISION.NAME = "mobilenet_v2"
    # State dict of the whole classification network, a local file as for MODEL.TIMM.WEIGHTS; empty: random weights.
    cfg.MODEL.TORCHVISION.WEIGHTS = ""
    # Norm layers: "frozen" (with pre-trained weights only: frozen BatchNorm and random weights do not go
    # together), "BN" as the network comes, "GN" group normalisation (small batches from scratch).
    cfg.MODEL.TORCHVISION.NORM = "BN"

    # A timm network (MODEL.BACKBONE.NAME: build_timm_backbone): an FPN over a network with strides 4 to 32, a simple
    # feature pyramid over a plain ViT. docs/backbones.md.
    cfg.MODEL.TIMM = CN()
    # Name in timm.list_models(), e.g. convnext_tiny, vit_large_patch16_224.
    cfg.MODEL.TIMM.NAME = "resnet18"
    # Arguments of timm.create_model as "key=value", for networks that differ from the named one, e.g. init_values=1e-5,
    # reg_tokens=4, mlp_layer=SwiGLUPacked, act_layer=SiLU (names of layers are looked up in timm.layers and torch.nn).
    cfg.MODEL.TIMM.KWARGS = []
    # Local file with the network's weights: a state dict, as it is or under "state_dict", "model" or "teacher", saved
    # by torch.save or as .safetensors; empty: random weights.
    cfg.MODEL.TIMM.WEIGHTS = ""
    # True: the network is a fixed feature extractor, the pyramid and the heads alone are trained. Saves most memory.
    cfg.MODEL.TIMM.FREEZE = False
    # BatchNorm: "BN" as the network comes, "frozen" with pre-trained weights and few tiles in a batch.
    cfg.MODEL.TIMM.NORM = "BN"
    # True: compute activations again in the backward pass instead of keeping them. About a third slower.
    cfg.MODEL.TIMM.CHECKPOINTING = False

    accept_old_keys(cfg)
