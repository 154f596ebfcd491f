"""Plumbing, not a result: with a fixed reader on the real model, a known shift must come out where it always has."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from theodolite.core import recipe as recipes
from theodolite.data import concept
from theodolite.data.splits import split
from theodolite.models.model import Model

SITE = "blocks.17.resid_post"


@pytest.mark.slow
def test_the_last_token_reads_harmful_intent_on_jailbreakbench_as_well_as_ever() -> None:
    found = concept.load(recipes.load("harmful-intent"))
    train, shift = found.train, found.shifts["jailbreakbench"]
    model = Model.from_pretrained("smollm2-135m-instruct", device="cpu", dtype="float32")
    read = model.read([*train.texts, *shift.texts], SITE, positions="all[-1]", pooling="last")
    x_nd = read[model.site(SITE)].rows
    fitted = split(train.frame, 0, shares=(0.7, 0, 0, 0.3)) == "train"
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    probe.fit(x_nd[: len(train)][fitted], train.frame["label"][fitted])
    auroc = roc_auc_score(shift.frame["label"], probe.decision_function(x_nd[len(train) :]))
    assert np.isfinite(x_nd).all()
    assert 0.83 <= auroc <= 0.93
