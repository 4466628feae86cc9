"""``python -m petcd.cli.etcdutl``."""

import sys

from petcd.cli.etcdutl import main

sys.exit(main())
