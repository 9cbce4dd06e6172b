"""`python -m osal_detectron2 train ...` is `osal train ...`, for torchrun and where `osal` is not on the path."""

import sys

from osal_detectron2.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
