"""
Hyperparameter search with Optuna
=================================

Optuna's sampler draws each trial near the best ones so far, and its pruner stops trials that are
behind the others at the same epoch. `skbackprop.callbacks.OptunaPruningCallback` reports the
validation loss after each epoch, and stops the `fit` of a pruned trial.

The left plot shows the loss of each trial, with pruned trials in gray. The right plot shows the
learning rates in the order of the trials: the sampler approaches a good one. At the end, the
network is fitted to all training data with the parameters of the best trial.
"""

import matplotlib.pyplot as plt
import numpy as np
import optuna
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skbackprop import BackpropClassifier
from skbackprop.callbacks import OptunaPruningCallback

N_TRIALS, N_EPOCHS = 60, 30

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
X_fit, X_val, y_fit, y_val = train_test_split(X_train, y_train, stratify=y_train, random_state=0)


def network(parameters):
    """Return a network with the parameters of a trial."""
    width, rest = parameters["width"], {k: v for k, v in parameters.items() if k != "width"}
    settings = {"max_iter": N_EPOCHS, "n_iter_no_change": np.inf, "random_state": 0}
    return BackpropClassifier((width,), **settings, **rest)


def objective(trial):
    """Train one network, and return the last loss of the rows that it has not seen."""
    parameters = {
        "width": trial.suggest_int("width", 8, 128, log=True),
        "learning_rate_init": trial.suggest_float("learning_rate_init", 1e-4, 1e-1, log=True),
        "alpha": trial.suggest_float("alpha", 1e-6, 1.0, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "learning_rate": trial.suggest_categorical("learning_rate", ["constant", "cosine"]),
    }
    model = network(parameters).set_callbacks(
        OptunaPruningCallback(trial, monitor="validation_loss")
    )
    model.fit(X_fit, y_fit, X_val=X_val, y_val=y_val)
    return model.validation_loss_curve_[-1]


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(
    direction="minimize",
    sampler=optuna.samplers.TPESampler(seed=0),
    pruner=optuna.pruners.MedianPruner(n_startup_trials=8, n_warmup_steps=3),
)
study.optimize(objective, n_trials=N_TRIALS)

pruned = [t for t in study.trials if t.state is optuna.trial.TrialState.PRUNED]
n_epochs = sum(len(t.intermediate_values) for t in study.trials)
best = network(study.best_params).fit(X_train, y_train)
print(f"{len(pruned)} of {N_TRIALS} trials were pruned: {n_epochs / N_TRIALS / N_EPOCHS:.0%} of")
print("the epochs that all of them would have taken.")
print(f"The best has the loss {study.best_value:.3f}, with")
for name, value in study.best_params.items():
    print(f"  {name} = {value if isinstance(value, str) else format(value, '.3g')}")
print(f"Accuracy on the test rows: {best.score(X_test, y_test):.3f}")

figure, (of_epochs, of_rates) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
for trial in study.trials:
    is_best, is_pruned = trial.number == study.best_trial.number, trial in pruned
    color = "tab:red" if is_best else "lightgrey" if is_pruned else "tab:blue"
    epochs, losses = zip(*trial.intermediate_values.items(), strict=True)
    settings = {"color": color, "zorder": 3 if is_best else 1 if is_pruned else 2}
    of_epochs.plot(epochs, losses, linewidth=2 if is_best else 0.8, **settings)
    of_rates.plot(trial.number, trial.params["learning_rate_init"], "o", **settings)
of_epochs.set(xlabel="epoch", ylabel="validation loss", yscale="log", title="Trials")
of_rates.set(xlabel="trial", ylabel="learning rate", yscale="log", title="Sampled learning rates")
for label, color in (("pruned", "lightgrey"), ("to the end", "tab:blue"), ("best", "tab:red")):
    of_rates.plot([], [], "o", color=color, label=label)
of_rates.legend()
plt.show()
