"""``python -m petcd.cli.etcd``."""

import sys

from petcd.cli.etcd import main

sys.exit(main())
