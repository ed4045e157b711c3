"""A tour of skbackprop on real data: what `make demo` runs.

It compares a grid search on the digits data with scikit-learn's, trains an ensemble of eight
networks on the same digits and a convolutional network on shifted digits, compares a raw table with
gradient boosting, fits a regression to the diabetes data, runs the XOR example, and writes all
plots to `demo-output/`. It fails if the accuracy on the digits is too low.
"""

import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # pictures go to files, so no display is needed

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import statsmodels.api as sm
from sklearn.base import clone
from sklearn.calibration import CalibrationDisplay
from sklearn.datasets import load_diabetes, load_digits
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import ConfusionMatrixDisplay, log_loss, mean_absolute_error, r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import plot_xor
from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    TabularClassifier,
)
from skbackprop.displays import LossCurveDisplay, SearchDisplay
from skbackprop.layers import Conv2D, GlobalMaxPool2D, MaxPool2D

PICTURES = Path("demo-output")
LEAST_ACCURACY = 0.97
RATES = [0.001, 0.003, 0.01, 0.03]
SIZES = [(32,), (64,), (128,)]
N_FOLDS = 3
N_MEMBERS = 8

plt.rcParams.update({"figure.constrained_layout.use": True, "figure.dpi": 120, "font.size": 11})


class Progress:
    """A bar of so many steps: drawn in place on a terminal, else one line when it is full."""

    WIDTH = 30

    def __init__(self, label: str, n_steps: int) -> None:
        self.label, self.n_steps, self.n_done = label, n_steps, 0
        self.start = time.perf_counter()
        self.seconds = 0.0
        self._draw()

    def step(self) -> None:
        self.n_done += 1
        self.seconds = time.perf_counter() - self.start
        self._draw()

    def _draw(self) -> None:
        is_done = self.n_done >= self.n_steps
        if not (is_done or sys.stdout.isatty()):
            return
        filled = self.WIDTH * self.n_done // self.n_steps
        bar = "#" * filled + "." * (self.WIDTH - filled)
        line = f"  {self.label:<20} [{bar}] {self.n_done}/{self.n_steps}  {self.seconds:5.1f} s"
        print(("\r" if sys.stdout.isatty() else "") + line, end="\n" if is_done else "", flush=True)


def save(figure, name: str) -> None:
    path = PICTURES / f"{name}.png"
    figure.savefig(path)
    plt.close(figure)
    print(f"  picture: {path}")


# -------------------------------------------------------------------------- the digits


def split_digits() -> list[np.ndarray]:
    """Return X to learn from, X held out, and the labels of both."""
    X, y = load_digits(return_X_y=True)
    return train_test_split(X.astype(np.float32), y, test_size=0.25, stratify=y, random_state=0)


def searched(search_class, classifier, X, y) -> tuple[GridSearchCV, float]:
    """Return a fitted grid search over rate and width, and the seconds its fits took."""
    progress = Progress(type(classifier).__name__, len(RATES) * len(SIZES) * N_FOLDS)

    def accuracy(estimator, X, y) -> float:
        progress.step()
        return estimator.score(X, y)

    search = search_class(
        Pipeline([("scale", StandardScaler()), ("network", classifier)]),
        {"network__learning_rate_init": RATES, "network__hidden_layer_sizes": SIZES},
        scoring=accuracy,
        cv=N_FOLDS,
    )
    return search.fit(X, y), progress.seconds


def draw_search(search: GridSearchCV):
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    params = ["learning_rate_init", "hidden_layer_sizes"]
    SearchDisplay.from_estimator(search, params=params, score_name="accuracy", ax=axes)
    axes.set(xlabel="learning rate", title="Grid search on the digits")
    return figure


def draw_losses(pipeline: Pipeline, X, y):
    """Train the best network at each rate once more and draw how its loss falls."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    trained = {
        f"learning rate {rate:g}": clone(pipeline)
        .set_params(network__learning_rate_init=rate)
        .fit(X, y)
        for rate in RATES
    }
    LossCurveDisplay.from_estimators(trained, ax=axes)
    axes.set_title("Training loss on the digits")
    return figure


def draw_confusion(pipeline: Pipeline, X, y):
    figure, axes = plt.subplots(figsize=(5.6, 5.2))
    ConfusionMatrixDisplay.from_estimator(pipeline, X, y, ax=axes, cmap="Blues", colorbar=False)
    axes.set_title(f"Held-out digits: accuracy {pipeline.score(X, y):.3f}")
    return figure


def show_digits() -> bool:
    """Return whether the held-out accuracy is what it should be."""
    X_train, X_test, y_train, y_test = split_digits()
    print(f"1. Digits: {len(X_train)} training images of 8 x 8 pixels, {len(X_test)} held out")
    print(f"  grid search: {len(RATES)} rates x {len(SIZES)} widths x {N_FOLDS} folds")
    settings = {"alpha": 1.0, "max_iter": 400, "tol": 1e-3, "random_state": 0}
    search, seconds = searched(
        BackpropGridSearchCV, BackpropClassifier(**settings), X_train, y_train
    )
    other, other_seconds = searched(GridSearchCV, MLPClassifier(**settings), X_train, y_train)
    network, other_network = search.best_estimator_, other.best_estimator_
    accuracy = network.score(X_test, y_test)
    best = ", ".join(f"{name.split('__')[1]}={v}" for name, v in search.best_params_.items())
    print(f"  scikit-learn's search and network took {other_seconds / seconds:.1f} times as long")
    print(f"  best: {best}")
    print(
        f"  held-out accuracy: {accuracy:.3f}"
        f" (MLPClassifier: {other_network.score(X_test, y_test):.3f})"
    )
    save(draw_search(search), "digits-search")
    save(draw_losses(network, X_train, y_train), "digits-loss")
    save(draw_confusion(network, X_test, y_test), "digits-confusion")
    return accuracy >= LEAST_ACCURACY


# ------------------------------------------------------------------------ the ensemble


def log_loss_of(network, X, y) -> float:
    """Return the mean of -log(probability of the right label)."""
    return -network.predict_log_proba(X)[np.arange(len(y)), y].mean()


def draw_members(losses: list[float], loss: float):
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    axes.bar(range(1, len(losses) + 1), losses, label="each network alone")
    axes.axhline(loss, color="tab:orange", label="the mean of their probabilities")
    axes.set(
        xlabel="network",
        ylabel="log loss on held-out digits",
        title=f"{len(losses)} networks, alone and as an ensemble",
    )
    axes.margins(y=0.25)
    axes.legend(loc="upper center", ncols=2, fontsize=9)
    return figure


def show_ensemble() -> None:
    X_train, X_test, y_train, y_test = split_digits()
    print(f"\n2. The same digits: an ensemble of {N_MEMBERS} networks with default settings")
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    start = time.perf_counter()
    ensemble = BackpropClassifier(n_estimators=N_MEMBERS, random_state=0).fit(X_train, y_train)
    print(f"  {N_MEMBERS} networks: {time.perf_counter() - start:.1f} s")
    members = ensemble.estimators_
    losses = [log_loss_of(member, X_test, y_test) for member in members]
    loss = log_loss_of(ensemble, X_test, y_test)
    accuracy = ensemble.score(X_test, y_test)
    print(f"  held-out log loss: {loss:.3f} (single networks: {np.mean(losses):.3f} on average)")
    mean_accuracy = np.mean([member.score(X_test, y_test) for member in members])
    print(f"  held-out accuracy: {accuracy:.3f} (single networks: {mean_accuracy:.3f} on average)")
    save(draw_members(losses, loss), "digits-ensemble")


# -------------------------------------------------------------------------- the images


def place_anywhere(digits: np.ndarray) -> np.ndarray:
    """Return the digits of 8 x 8 pixels at random places of images of 12 x 12."""
    images = np.zeros((len(digits), 12, 12), np.float32)
    places = np.random.default_rng(0).integers(5, size=(len(digits), 2))
    for image, digit, (top, left) in zip(images, digits.reshape(-1, 8, 8), places, strict=True):
        image[top : top + 8, left : left + 8] = digit / 16
    return images


def draw_images(images, labels, predictions: dict[str, np.ndarray], accuracies: dict[str, float]):
    figure, axes = plt.subplots(4, 10, figsize=(8, 4.4))
    for i, ax in enumerate(axes.flat):
        ax.imshow(images[i], cmap="gray_r")
        wrong = [name for name, guesses in predictions.items() if guesses[i] != labels[i]]
        ax.set_xlabel("\n".join(wrong), fontsize=7, color="tab:red", labelpad=2)
        ax.set(xticks=[], yticks=[])
    scores = ", ".join(f"{name} {accuracy:.2f}" for name, accuracy in accuracies.items())
    figure.suptitle(
        f"Held-out digits and the errors of the networks. Accuracy: {scores}", fontsize=11
    )
    return figure


def show_images() -> None:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        place_anywhere(X), y, test_size=0.25, stratify=y, random_state=0
    )
    print("\n3. Digits at random places of 12 x 12 pixels: convolution and dense layers")
    settings = {"batch_size": 32, "learning_rate_init": 0.003, "learning_rate": "cosine"}
    settings |= {"max_iter": 15, "n_iter_no_change": np.inf, "random_state": 0}
    layers = [
        Conv2D(16, 3, padding="same", activation="relu"),
        MaxPool2D(2),
        Conv2D(32, 3, padding="same", activation="relu"),
        Conv2D(32, 3, padding="same", activation="relu"),
        GlobalMaxPool2D(),
    ]
    models = {
        "convolution": BackpropClassifier((64,), layers=layers, **settings),
        "dense": make_pipeline(
            FunctionTransformer(lambda images: images.reshape(len(images), -1)),
            BackpropClassifier((120, 64), **settings),
        ),
    }
    accuracies, predictions = {}, {}
    for name, model in models.items():
        start = time.perf_counter()
        predictions[name] = model.fit(X_train, y_train).predict(X_test)
        accuracies[name] = float(np.mean(predictions[name] == y_test))
        seconds = time.perf_counter() - start
        print(f"  {name:<11} held-out accuracy {accuracies[name]:.3f}, {seconds:.1f} s")
    save(draw_images(X_test, y_test, predictions, accuracies), "images")


# --------------------------------------------------------------------------- the table


def raw_table():
    """Return 20,190 insured patients, with words and gaps, and who sees a doctor in the year."""
    data = sm.datasets.randhie.load_pandas().data
    health = pd.from_dummies(data.iloc[:, -3:].astype(int), default_category="excellent").iloc[:, 0]
    words = {"hlthg": "good", "hlthf": "fair", "hlthp": "poor"}
    table = data.iloc[:, 1:-3].assign(health=health.replace(words).astype("category"))
    is_known = np.random.default_rng(0).random(len(table)) > 0.1
    table["disea"] = table["disea"].where(is_known)  # the number of chronic diseases
    return table, np.where(data["mdvis"] > 0, "yes", "no")


def draw_calibration(models, X, y):
    figure, axes = plt.subplots(figsize=(5.6, 5.2))
    for name, model in models.items():
        CalibrationDisplay.from_estimator(
            model, X, y, pos_label="yes", strategy="quantile", name=name, ax=axes
        )
    axes.set(xlabel="predicted probability of a visit to a doctor", ylabel="share with a visit")
    axes.set_title("A raw table: are the probabilities calibrated?")
    return figure


def show_table() -> None:
    X, X_test, y, y_test = train_test_split(*raw_table(), train_size=3000, random_state=0)
    print(f"\n4. A raw table: {X.shape[1]} columns, categories and missing values, {len(X)} rows")
    models = {
        "TabularClassifier": TabularClassifier(n_estimators=4, random_state=0),
        "HistGradientBoosting": HistGradientBoostingClassifier(random_state=0),
    }
    for name, model in models.items():
        start = time.perf_counter()
        model.fit(X, y)
        seconds = time.perf_counter() - start
        loss = log_loss(y_test, model.predict_proba(X_test))
        accuracy = model.score(X_test, y_test)
        print(f"  {name:<20} log loss {loss:.3f}, accuracy {accuracy:.3f}, {seconds:.1f} s")
    found = models["TabularClassifier"].oof_score_
    print(f"  out-of-fold accuracy, without held-out rows: {found:.3f}")
    save(draw_calibration(models, X_test, y_test), "table-calibration")


# ------------------------------------------------------------------------ the diabetes


def draw_predictions(y, predicted, title: str):
    figure, axes = plt.subplots(figsize=(5.2, 5.0))
    axes.scatter(y, predicted, s=18, alpha=0.6)
    axes.axline((y.mean(), y.mean()), slope=1, color="black", linewidth=1, label="perfect")
    axes.axhline(y.mean(), color="tab:orange", linestyle="--", label="always the mean")
    axes.set(xlabel="measured progression", ylabel="predicted progression", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    return figure


def show_diabetes() -> None:
    X, y = load_diabetes(return_X_y=True)
    print(f"\n5. Diabetes: progression after a year, {len(X)} patients, 5 folds")
    # A network wants targets of about unit size as much as it wants such inputs.
    network = make_pipeline(
        StandardScaler(),
        BackpropRegressor((32,), alpha=10.0, max_iter=500, scale_target=True, random_state=0),
    )
    folds = KFold(5, shuffle=True, random_state=0)
    predicted = cross_val_predict(network, X, y, cv=folds)
    baseline = cross_val_predict(DummyRegressor(), X, y, cv=folds)
    r2 = r2_score(y, predicted)
    errors = [mean_absolute_error(y, guess) for guess in (predicted, baseline)]
    print(f"  R2: {r2:.2f} (0: always the mean)")
    print("  mean absolute error: {:.0f} (always the mean: {:.0f})".format(*errors))
    save(draw_predictions(y, predicted, f"Diabetes, cross-validated: R2 = {r2:.2f}"), "diabetes")


# -------------------------------------------------------------------------------- XOR


def show_xor() -> None:
    print("\n6. XOR, the classic program (examples/plot_xor.py)")
    plot_xor.main(PICTURES)


def main() -> int:
    start = time.perf_counter()
    PICTURES.mkdir(exist_ok=True)
    is_right = show_digits()
    show_ensemble()
    show_images()
    show_table()
    show_diabetes()
    show_xor()
    print(f"\nAll pictures are in {PICTURES.resolve()} ({time.perf_counter() - start:.0f} s).")
    if not is_right:
        print(f"FAILED: the held-out accuracy on digits is below {LEAST_ACCURACY}.")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
