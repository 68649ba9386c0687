"""Draws the learning curves of run folders into a picture: `python docs/picture.py FOLDER PICTURE`."""

import sys

from qladder.runners.figures import curves_figure
from qladder.runners.runs import find_runs

curves_figure(find_runs([sys.argv[1]]).runs, sys.argv[2])
