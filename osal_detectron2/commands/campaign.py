"""`osal campaign init | status | next | sync | verify`: from a bare folder of images to a detector, with people."""

import argparse
import sys

from ..core.spelling import spelled


def begin(parser: argparse.ArgumentParser) -> None:
    _folder(
        parser,
        'osal campaign init lung --images scans --classes "tumor,lymphocyte,plasma" --known "tumor,lymphocyte" '
        "--minutes 40",
    )
    parser.add_argument(
        "--images",
        required=True,
        metavar="DIR|SLIDE|COCO",
        help="a folder of images, one slide, or a COCO file",
    )
    parser.add_argument(
        "--classes", required=True, metavar="A,B,C", help="all classes that people are to mark"
    )
    parser.add_argument("--known", required=True, metavar="A,B", help="those that the detector is for")
    parser.add_argument(
        "--minutes", type=float, default=40.0, help="of one sitting: a batch fills it (default: 40)"
    )
    parser.add_argument(
        "--batches", type=int, default=5, help="to ask for, after the first tiles (default: 5)"
    )
    parser.add_argument("--labelled", default="", metavar="COCO", help="labels that are there already")
    parser.add_argument(
        "--test-fraction",
        type=float,
        default=0.2,
        help="share of the slides kept to measure on (default: 0.2)",
    )
    parser.add_argument(
        "--test-sittings", type=float, default=1.0, help="what labelling the test tiles takes (default: 1)"
    )
    parser.add_argument(
        "--slides", default="", metavar="CSV", help="which image is of which slide: image,slide"
    )
    parser.add_argument(
        "--slide-rule",
        default="",
        metavar="REGEX",
        help="the slide in an image's name, e.g. '^(TCGA-..-....)'",
    )
    parser.add_argument(
        "--tile", type=int, default=256, help="side that large images are cut to (default: 256 px)"
    )
    parser.add_argument(
        "--downsample", type=float, default=1.0, help="pixels of an image for one of a tile (default: 1)"
    )
    parser.add_argument("--nucleus-size", type=float, default=20.0, help="side of a nucleus (default: 20 px)")
    parser.add_argument("--strategy", default="", help="that asks for the batches (default: by the labels)")
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="ImageNet weights of a network of torchvision"
    )
    parser.add_argument("--network", default="", help="its name, e.g. resnet18 (default: found out)")
    parser.add_argument(
        "--device", default="", choices=("cpu", "cuda"), help="default: cuda where a GPU is usable"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    parser.set_defaults(call=_begin)


def status(parser: argparse.ArgumentParser) -> None:
    _folder(parser, "osal campaign status lung")
    parser.set_defaults(call=_status)


def go_on(parser: argparse.ArgumentParser) -> None:
    _folder(parser, "osal campaign next lung")
    parser.add_argument("--batches", type=int, metavar="N", help="ask for so many in all, from now on")
    parser.add_argument(
        "--unmeasured", action="store_true", help="train although the test tiles are not labelled yet"
    )
    parser.add_argument(
        "--no-training",
        action="store_true",
        help="take the labels in and write the config, which you may then change",
    )
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="processes of the training")
    parser.set_defaults(call=_next)


def sync(parser: argparse.ArgumentParser) -> None:
    _folder(parser, "osal campaign sync lung --label-studio http://localhost:8080")
    parser.add_argument("--label-studio", metavar="URL", help="its address (default: that of the last time)")
    parser.add_argument(
        "--treat-skipped-as",
        choices=("pending", "rejected"),
        default="pending",
        help="tiles that somebody skipped (default: pending)",
    )
    parser.set_defaults(call=_sync)


def verify(parser: argparse.ArgumentParser) -> None:
    _folder(parser, "osal campaign verify lung")
    parser.set_defaults(call=_verify)


def _folder(parser: argparse.ArgumentParser, example: str) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="of the campaign")
    parser.epilog = f"example:\n  {example}"


def _begin(args) -> None:
    from dataclasses import fields

    from ..campaign.folder import Settings
    from ..campaign.start import begin
    from ..campaign.status import campaign_status

    values = {field.name: getattr(args, field.name) for field in fields(Settings)}
    for name in ("classes", "known"):
        values[name] = tuple(word.strip() for word in values[name].split(",") if word.strip())
    print(spelled(campaign_status(begin(args.folder, Settings(**values), progress=_progress))))


def _status(args) -> None:
    from ..campaign.folder import Campaign
    from ..campaign.status import campaign_status

    print(spelled(campaign_status(Campaign.open(args.folder))))


def _next(args) -> int:
    from ..campaign.folder import Campaign
    from ..campaign.status import campaign_status
    from ..campaign.training import must_wait, prepare, training_words
    from ..core.lock import RunLock
    from .main import main

    campaign = Campaign.open(args.folder)
    with RunLock(campaign.folder):
        for sentence in prepare(campaign):
            print(sentence)
    if not args.no_training and not must_wait(campaign, batches=args.batches, unmeasured=args.unmeasured):
        words = ["train", "--num-gpus", str(args.num_gpus), *training_words(campaign, args.batches)]
        if code := main(words):  # has the lock of its run
            return code
    print(spelled(campaign_status(campaign)))
    return 0


def _sync(args) -> None:
    from ..campaign.folder import Campaign
    from ..campaign.label_studio import LabelStudio, known_address, sent_in_clear, token_of_environment
    from ..campaign.status import campaign_status
    from ..campaign.sync import sync
    from ..core.errors import ConfigError
    from ..core.lock import RunLock

    campaign = Campaign.open(args.folder)
    url = args.label_studio or known_address(campaign.folder)
    if not url:
        raise ConfigError("--label-studio: give its address once, e.g. http://localhost:8080")
    server = LabelStudio(url, token_of_environment())
    if sent_in_clear(url):
        print(f"note: {url} is not https: the token crosses the network unencrypted", file=sys.stderr)
    with RunLock(campaign.folder):
        done = sync(campaign, server, treat_skipped_as=args.treat_skipped_as, progress=_progress)
    print(f"{done.url}: {done.uploaded} new tasks")
    for report in done.reports:
        print(report)
    for sentence in done.refused:
        print(f"correct it in Label Studio: {sentence}")
    print(spelled(campaign_status(campaign)))


def _verify(args) -> int:
    from ..campaign.verify import verify_campaign

    findings = verify_campaign(args.folder)
    print("\n".join(findings) if findings else f"{args.folder}: the record is complete and unchanged")
    return 1 if findings else 0


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)
