"""Every key that osal_detectron2 adds to a Detectron2 config, in one place.

`add_osal_config(cfg)` changes only the config that it is given, never Detectron2's global defaults.
Section numbers refer to the methods specification that docs/reproducibility.md summarises.
"""

from detectron2.config import CfgNode as CN


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
    # Unknown nuclei in the target's training tiles. "drop": not annotated, hence background in RPN and ROI
    # (the protocol of the open-set detection literature); "ignore": excluded from both losses (needs OSALRCNN).
    # Section 6 row 3.
    cfg.OSAL.DATA.UNKNOWN_POLICY = "drop"
    # Random flips along both axes: nuclei have no orientation.
    cfg.OSAL.DATA.FLIPS = True
    # Keep decoded images in memory after the first read (tiles are small; a pool is read many times).
    cfg.OSAL.DATA.CACHE_IMAGES = False

    # ---- budget and schedule ----------------------------------------------------------------------------
    cfg.OSAL.BUDGET = CN()
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

    # ---- scoring and selection --------------------------------------------------------------------------
    cfg.OSAL.SCORING = CN()
    # Tiles in one forward pass of the pool, per process. Has no influence on what is selected.
    cfg.OSAL.SCORING.BATCH_SIZE = 8

    cfg.OSAL.PCSS = CN()
    # Candidate set = CAND_FACTOR * budget tiles [paper: 2N].
    cfg.OSAL.PCSS.CAND_FACTOR = 2.0
    # Auxiliary detections below this score are not counted. Section 2.3.
    cfg.OSAL.PCSS.SCORE_THRESH = 0.3
    # What counts as a known nucleus: "proto" nearer to the known prototype, "label" head says known, "both".
    cfg.OSAL.PCSS.COUNT_RULE = "proto"
    # "class_agnostic": one nucleus detected as known and as unknown is counted once; "per_class".
    cfg.OSAL.PCSS.NMS = "class_agnostic"

    cfg.OSAL.UTSS = CN()
    # Target detections below this score take no part in Eqs. 5 and 6 (not below ROI_HEADS.SCORE_THRESH_TEST).
    cfg.OSAL.UTSS.SCORE_THRESH = 0.05

    # Baseline uncertainty; detections below OSAL.UTSS.SCORE_THRESH take no part. Section 3.2.
    cfg.OSAL.UNCERTAINTY = CN()
    # Of a detection, from its posterior with background: "entropy"; "least_confidence" 1 - the largest known class;
    # "margin" 1 - the difference of the two largest.
    cfg.OSAL.UNCERTAINTY.MODE = "entropy"
    # Of a tile: "mean", "max" or "sum" over its detections. The last two favour crowded tiles.
    cfg.OSAL.UNCERTAINTY.AGG = "mean"

    # Baseline coreset. Section 3.3.
    cfg.OSAL.CORESET = CN()
    # What tiles are compared by: "res5" the last map of the backbone (of a C4 model res4), "fpn" the maps that the ROI
    # heads read; means over the tile.
    cfg.OSAL.CORESET.FEATURE = "res5"

    # Baseline laal. Section 3.4.
    cfg.OSAL.LAAL = CN()
    # "ls_c" stability under noise and class uncertainty; "lt_c" tightness and class certainty, the only one that needs
    # no noise; "three_in_one" the mean of the tiles' ranks by class uncertainty, stability and tightness.
    cfg.OSAL.LAAL.MODE = "ls_c"
    # Standard deviations of the noise on the 0-255 scale; one more pass over the pool for each.
    cfg.OSAL.LAAL.SIGMAS = [8, 16, 24, 32, 40, 48]
    # The stability of a tile is that of so many detections at most, the surest ones.
    cfg.OSAL.LAAL.MAX_REF = 30
    # Weight of stability against class uncertainty in "ls_c", lambda of the paper.
    cfg.OSAL.LAAL.STABILITY_WEIGHT = 1.0

    # Baseline cald. Section 3.6.
    cfg.OSAL.CALD = CN()
    # Views of a tile to compare it with, one more pass over the pool for each: F flip, C cut-out, D down-scaling,
    # R rotation, G Gaussian noise (std 16), S salt and pepper (a tenth of the pixels).
    cfg.OSAL.CALD.AUGS = "FCDR"
    # The agreement (0 to 2) of the boxes that make a tile most informative.
    cfg.OSAL.CALD.BETA = 1.3
    # Stage one keeps DELTA * budget tiles.
    cfg.OSAL.CALD.DELTA = 1.2
    # Factor of D, ...
    cfg.OSAL.CALD.SCALE = 0.8
    # ... applied to the network input. True: to the tile, as in the authors' code; the resize to INPUT.MIN_SIZE_TEST
    # undoes it then, and a blur is left.
    cfg.OSAL.CALD.DOWNSIZE_BEFORE_RESIZE = False
    # Degrees of R.
    cfg.OSAL.CALD.ROTATION = 5.0
    # C blackens so many rectangles at most, ...
    cfg.OSAL.CALD.CUT_NUM = 2
    # ... their height and width between these shares of the tile's, ...
    cfg.OSAL.CALD.CUT_SIZE = (0.05, 0.2)
    # ... which cover between these shares of the detected box that they cover most.
    cfg.OSAL.CALD.CUT_OVERLAP = (0.1, 0.4)
    # Detections of a tile that are compared at most, evenly spaced by score.
    cfg.OSAL.CALD.MAX_REF = 50
    # False leaves out stage two, which prefers tiles of other classes than the labelled ones.
    cfg.OSAL.CALD.MUTUAL = True

    # Our own rule osal_nd_plus; docs/strategies.md says what each part is for.
    cfg.OSAL.PLUS = CN()
    # Count the nuclei nearer to the known prototype; without it, all that the auxiliary detects.
    cfg.OSAL.PLUS.PURITY = True
    # Prefer classes with few labels: what a tile adds to the sum over classes of the logarithm of their nuclei.
    cfg.OSAL.PLUS.BALANCE = True

    # Baseline ll4al: a head of the target that predicts its loss. Section 3.5.
    cfg.OSAL.LL4AL = CN()
    # Width of the layer behind each feature map of ROI_HEADS.IN_FEATURES.
    cfg.OSAL.LL4AL.HIDDEN = 128
    # The predictions of a pair of tiles should differ by this much. They have no scale of their own.
    cfg.OSAL.LL4AL.MARGIN = 1.0
    # Weight of the pair loss beside the detector's losses; 0 leaves the head untrained.
    cfg.OSAL.LL4AL.WEIGHT = 1.0
    # After this fraction of a round the pair loss no longer reaches the backbone; 0: it never does, and the detector is
    # that of the other strategies. 1: always.
    cfg.OSAL.LL4AL.DETACH_FRACTION = 0.8

    # Baseline lfosa. Section 3.7.
    cfg.OSAL.LFOSA = CN()
    # A tile's known-ness from those of its boxes: "mean", or "sum", the expected number of known nuclei.
    cfg.OSAL.LFOSA.AGG = "mean"

    # Baseline openal. Section 3.9.
    cfg.OSAL.OPENAL = CN()
    # At most so many k-means clusters of unknown nuclei; one for every 20 that are labelled.
    cfg.OSAL.OPENAL.K_OUT = 9
    # Dimensions of the box features after PCA; at most one fewer than there are labelled unknown nuclei.
    cfg.OSAL.OPENAL.PCA = 64
    # Share of the isotropic part in a covariance, > 0; 0 would be degenerate for few nuclei in many dimensions.
    cfg.OSAL.OPENAL.SHRINK = 0.1
    # Stage one keeps CAND_FACTOR * budget tiles, as OSAL-ND does.
    cfg.OSAL.OPENAL.CAND_FACTOR = 2.0

    # ---- oracle -----------------------------------------------------------------------------------------
    cfg.OSAL.ORACLE = CN()
    # "simulated": the labels hidden in the JSON; "human": export a batch, stop with exit code 0, import with
    # tools/al.py, go on with --resume.
    cfg.OSAL.ORACLE.NAME = "simulated"
    # Cost of annotation, for the estimate that is printed with a batch and with --dry-run.
    cfg.OSAL.ORACLE.SECONDS_PER_NUCLEUS = 3.0
    cfg.OSAL.ORACLE.SECONDS_PER_TILE = 15.0

    # ---- evaluation -------------------------------------------------------------------------------------
    cfg.OSAL.EVAL = CN()
    # Unknown nuclei at test time: "fp" detections on them are false positives, "ignore" COCO ignore regions.
    cfg.OSAL.EVAL.UNKNOWN = "fp"
    # A detection on an unknown nucleus counts for A-OSE at or above this score.
    cfg.OSAL.EVAL.AOSE_SCORE_THRESH = 0.5
    # Queried tiles drawn in the gallery of each round; 0 draws none.
    cfg.OSAL.EVAL.GALLERY_TILES = 12

    # ---- models -----------------------------------------------------------------------------------------
    # The two detectors of OSALRCNN. The target takes MODEL.ROI_HEADS.NAME; the auxiliary this one.
    cfg.OSAL.AUXILIARY = CN()
    cfg.OSAL.AUXILIARY.ROI_HEADS_NAME = "PrototypeROIHeads"
    # Its backbone: "own" [paper]; "shared", the target's, trained by the losses of both, or "detached", the target's,
    # trained by the target's losses alone. See docs/models.md.
    cfg.OSAL.AUXILIARY.BACKBONE = "own"
    # What the auxiliary learns: "known_unknown", two classes; "k_plus_one", each known class and one for the unknown
    # nuclei (LfOSA sets it; PCSS.COUNT_RULE label and both go with known_unknown only).
    cfg.OSAL.AUXILIARY.CLASSES = "known_unknown"
    # T of the auxiliary's classifier: loss CE(h / T), scores softmax(h / T). LfOSA sets 0.5. Section 3.7.
    cfg.OSAL.AUXILIARY.TEMPERATURE = 1.0

    cfg.OSAL.PROTOTYPE = CN()
    # False builds the Prototype... heads without prototypes and their loss (LfOSA sets it).
    cfg.OSAL.PROTOTYPE.ENABLED = True
    # "learnable" parameters, "ema" of batch class means, "mean" of all features so far. Section 2.4.
    cfg.OSAL.PROTOTYPE.MODE = "learnable"
    # Margin Delta of Eq. 2. Meaningless on unit-norm features, see NORM.
    cfg.OSAL.PROTOTYPE.MARGIN = 10.0
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
    # The KL term of the TMC loss grows from 0 to KL_WEIGHT over this fraction of the round.
    cfg.OSAL.EVIDENCE.KL_WEIGHT = 1.0
    cfg.OSAL.EVIDENCE.ANNEAL_FRACTION = 0.1

    # A torchvision classification network as an FPN backbone (MODEL.BACKBONE.NAME: build_torchvision_fpn_backbone).
    cfg.MODEL.TORCHVISION = CN()
    # Name of the constructor in torchvision.models, e.g. mobilenet_v2, resnet18, efficientnet_b0.
    cfg.MODEL.TORCHVISION.NAME = "mobilenet_v2"
    # State dict of the whole classification network, a local file; empty: random weights.
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
