"""The estimators hold to scikit-learn's contract, and to the loop that they wrap."""

import copy
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import gradloom as gl
from gradloom import nn
from gradloom.errors import OptionError
from gradloom.training import GradloomClassifier, GradloomRegressor
from gradloom.training.callbacks import EarlyStopping, LambdaCallback
from gradloom.training.metrics import Accuracy

X, Y = load_iris(return_X_y=True)
SRC = Path(__file__).parents[2] / "src"


@parametrize_with_checks([GradloomClassifier(), GradloomRegressor()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def with_dropout(features, outputs):
    return nn.Sequential(
        nn.Linear(features, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, outputs)
    )


def linear(features, outputs):
    return nn.Linear(features, outputs)


def interrupt(step, logs):
    os.kill(os.getpid(), signal.SIGINT)


def no_bias(features, outputs):
    return nn.Linear(features, outputs, bias=False)


def test_a_linear_module_is_logistic_regression():
    model = GradloomClassifier(
        no_bias, epochs=600, batch_size=150, learning_rate=0.1, optimizer_options={"weight_decay": 1 / 150}
    )
    x = StandardScaler().fit_transform(X)
    theirs = LogisticRegression(C=1.0, fit_intercept=False, max_iter=1000, tol=1e-8).fit(x, Y)
    np.testing.assert_allclose(model.fit(x, Y).predict_proba(x), theirs.predict_proba(x), atol=1e-3)


@pytest.mark.parametrize("given", ["float32", "float64"])
def test_the_dtype_is_that_of_the_data_where_the_engine_has_it(backend, given):
    model = GradloomClassifier(epochs=1).fit(X.astype(given), Y)
    assert model.module_[0].weight.backend == backend
    assert model.predict_proba(X.astype(given)).dtype == ("float32" if backend == "jax" else given)


def test_engines_agree(backend):
    options = {"module": with_dropout, "epochs": 3, "random_state": 0, "dtype": "float32"}
    x = StandardScaler().fit_transform(X)
    reference = GradloomClassifier(**options, backend="numpy").fit(x, Y)
    found = GradloomClassifier(**options, backend=backend).fit(x, Y)
    np.testing.assert_allclose(found.predict_proba(x), reference.predict_proba(x), atol=2e-3)


def test_same_state_same_model_and_the_global_generator_is_left_alone():
    gl.manual_seed(7)
    expected = gl.rand(3).numpy()
    gl.manual_seed(7)
    models = [GradloomClassifier(with_dropout, epochs=3, random_state=s).fit(X, Y) for s in (0, 0, 1)]
    np.testing.assert_array_equal(gl.rand(3).numpy(), expected)
    first, again, other = (m.predict_proba(X) for m in models)
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-3


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_copies_predict_the_same(way, backend):
    model = GradloomClassifier(with_dropout, epochs=2, random_state=0, callbacks=[EarlyStopping("train_loss")])
    model.fit(X, np.array(["a", "b", "c"])[Y])
    state = gl.default_generator.get_state()
    other = pickle.loads(pickle.dumps(model)) if way == "pickle" else copy.deepcopy(model)
    assert gl.default_generator.get_state() == state
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    assert set(other.predict(X)) <= {"a", "b", "c"}
    assert not hasattr(clone(model), "module_")


def test_predictions_stay_on_the_engine_of_the_fit():
    model = GradloomRegressor(epochs=1, backend="numpy").fit(X, Y.astype(float))
    pytest.importorskip("torch")
    with gl.using_backend("torch"):
        assert model.predict(X).shape == (150,)
    assert model.module_[0].weight.backend == "numpy"


def test_in_a_pipeline_a_grid_search_and_cross_validation():
    pipeline = make_pipeline(StandardScaler(), GradloomClassifier((8,), epochs=15, random_state=0))
    search = GridSearchCV(pipeline, {"gradloomclassifier__learning_rate": [1e-6, 0.02]}, cv=3).fit(X, Y)
    assert search.best_params_ == {"gradloomclassifier__learning_rate": 0.02}
    assert search.best_score_ > 0.85
    assert cross_val_score(pipeline.set_params(gradloomclassifier__learning_rate=0.02), X, Y, cv=3).mean() > 0.85


def test_validation_callbacks_and_metrics():
    stopping = EarlyStopping(patience=2, baseline=-1.0)
    model = GradloomClassifier(
        (4,), epochs=50, validation_fraction=0.2, callbacks=[stopping], metrics=[Accuracy], random_state=0
    ).fit(X, Y)
    assert model.n_epochs_ == 2 == len(model.history_["val_accuracy"])
    assert stopping.stopped_epoch is None and stopping.owner is None  # the one given is not the one used
    regressor = GradloomRegressor((4,), epochs=2, validation_fraction=0.5, random_state=0).fit(X, Y.astype(float))
    assert len(regressor.history_["val_loss"]) == 2


def test_several_targets_and_a_loss_of_ones_own():
    targets = np.stack([X[:, 0], -X[:, 1]], 1)
    model = GradloomRegressor(linear, loss=nn.L1Loss(), epochs=60, learning_rate=0.05, random_state=0).fit(X, targets)
    assert model.predict(X).shape == (150, 2)
    assert model.score(X, targets) > 0.8
    assert GradloomRegressor(epochs=1).fit(X, targets[:, 0]).predict(X).shape == (150,)


def test_ctrl_c_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        GradloomClassifier(epochs=3, callbacks=[LambdaCallback(on_step_end=interrupt)]).fit(X, Y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"module": nn.Linear(4, 3)}, "module says how a new module is made(.|\n)*given: +Linear"),
        ({"optimizer": "Adamm"}, "there is no such optimizer(.|\n)*given: +'Adamm'"),
        ({"validation_fraction": 1.0}, "validation_fraction is a share"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(OptionError, match=message):
        GradloomClassifier(**options).fit(X, Y)


def test_without_scikit_learn_the_extra_is_named():
    code = "import sys; sys.modules['sklearn'] = None; from gradloom.training import TrainingLoop, GradloomClassifier"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(SRC)}, capture_output=True, text=True
    )
    assert "MissingExtraError" in done.stderr and "pip install 'gradloom[tune]'" in done.stderr


def test_training_is_imported_without_scikit_learn_and_optuna():
    code = "import sys, gradloom.training; print([m for m in ('sklearn', 'optuna') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(SRC)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
