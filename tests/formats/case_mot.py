"""MOT's data units are frames of a sequence: the data set of images does not fit it.

It is tested in test_mot.py, with a project of its own.
"""

PREDICTION_CASES = ()
LABEL_CASES = ()
