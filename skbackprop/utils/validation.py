"""Range checks of settings, and suggestions for unknown names."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np


def validate_interval(
    settings: Any,
    *names: str,
    low: float = -math.inf,
    high: float = math.inf,
    closed: Literal["both", "left", "right", "neither"] = "both",
) -> None:
    """Check that fields of a frozen dataclass are numbers in an interval.

    On return each is a Python float, which does not change the dtype of arrays, or an array of
    shape (n_estimators, 1), as in the settings of a stack.

    Parameters
    ----------
    settings : dataclass
        The settings; called in their `__post_init__`.
    *names : str
        The names of the fields.
    low, high : float, default=-np.inf, np.inf
        The bounds of the interval.
    closed : {"both", "left", "right", "neither"}, default="both"
        The bounds that belong to the interval.

    Raises
    ------
    ValueError
        If a field is not a number in the interval.
    """
    opening, above = ("[", operator.ge) if closed in ("both", "left") else ("(", operator.gt)
    closing, below = ("]", operator.le) if closed in ("both", "right") else (")", operator.lt)
    for name in names:
        value = getattr(settings, name)
        is_array = _is_per_member(value)
        is_number = is_array or (isinstance(value, Real) and not isinstance(value, bool))
        if not (is_number and _all(above(value, low) & below(value, high))):
            raise ValueError(
                f"{name} of {type(settings).__name__} must be a number in the range "
                f"{opening}{low:g}, {high:g}{closing}, got {value!r}."
            )
        if not is_array:
            object.__setattr__(settings, name, float(value))


def validate_positive_int(settings: Any, *names: str) -> None:
    """Check that fields of a frozen dataclass are integers of at least one.

    On return each is a Python int.

    Parameters
    ----------
    settings : dataclass
        The settings; called in their `__post_init__`.
    *names : str
        The fields.

    Raises
    ------
    ValueError
        If a field is not an int, or is less than one.
    """
    for name in names:
        value = getattr(settings, name)
        is_count = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
        if not is_count:
            raise ValueError(
                f"{name} of {type(settings).__name__} must be an int of at least 1, got {value!r}."
            )
        object.__setattr__(settings, name, int(value))


def _all(inside: Any) -> bool:
    # For single numbers NumPy's functions take ten times as long as Python's comparison.
    return bool(inside.all() if isinstance(inside, np.ndarray) else inside)


def _is_per_member(value: Any) -> bool:
    is_matrix = isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim == 2
    return is_matrix and value.shape[1] == 1


# Our names, with the names that Keras, PyTorch, skorch, XGBoost and scikit-learn use. Case, hyphens
# and underscores do not matter. If a word is in several rows, the hint is the first of our names
# that is valid in the place of the error.
SYNONYMS: dict[str, str] = {
    # activations
    "identity": "linear none",
    "logistic": "sigmoid expit logit",
    "tanh": "hyperbolic_tangent",
    "relu": "rectifier rectified_linear rectified_linear_unit",
    "leaky_relu": "lrelu prelu",
    "elu": "exponential_linear_unit",
    "selu": "scaled_elu scaled_exponential_linear_unit",
    "gelu": "gaussian_error_linear_unit",
    "gelu_tanh": "gelu_new gelu_fast gelu_approximate approximate_gelu gelu_pytorch_tanh",
    "silu": "swish sigmoid_linear_unit",
    "softplus": "smooth_relu",
    # losses
    "log_loss": (
        "cross_entropy cross_entropy_loss crossentropy categorical_crossentropy "
        "sparse_categorical_crossentropy binary_crossentropy ce bce bce_loss bce_with_logits "
        "bce_with_logits_loss nll nll_loss negative_log_likelihood log logistic deviance "
        "binary:logistic multi:softmax multi:softprob softmax"
    ),
    "focal": (
        "focal_loss sigmoid_focal_loss binary_focal_crossentropy categorical_focal_crossentropy"
    ),
    "hinge": "hinge_loss categorical_hinge multi_margin_loss binary:hinge svm",
    "squared_hinge": "squared_hinge_loss",
    "squared_error": (
        "mse mse_loss mean_squared_error l2 l2_loss squared_loss least_squares rmse "
        "root_mean_squared_error reg:squarederror"
    ),
    "brier": (
        "brier_score squared_error mse mse_loss mean_squared_error l2 l2_loss squared_loss "
        "least_squares"
    ),
    "absolute_error": "mae mean_absolute_error l1 l1_loss least_absolute_deviation "
    "reg:absoluteerror median_absolute_error",
    "huber": "huber_loss smooth_l1 smooth_l1_loss reg:pseudohubererror pseudo_huber",
    "log_cosh": "logcosh log_cosh_loss",
    "quantile": "quantile_loss pinball pinball_loss mean_pinball_loss reg:quantileerror",
    "poisson": "poisson_loss poisson_nll_loss poisson_deviance mean_poisson_deviance count:poisson",
    "gamma": "gamma_deviance mean_gamma_deviance reg:gamma",
    "tweedie": "tweedie_deviance mean_tweedie_deviance reg:tweedie",
    "gaussian": "gaussian_nll gaussian_nll_loss nll normal normal_likelihood heteroscedastic",
    # optimizers
    "sgd": "gd gradient_descent stochastic_gradient_descent sgdm nesterov",
    "adam": "adamax radam",
    "adamw": "adam_w adam_weight_decay",
    "nadam": "nesterov_adam",
    "rmsprop": "rms",
    "lbfgs": "bfgs l_bfgs_b lbfgsb newton quasi_newton",
    # schedules
    "constant": "fixed constant_lr",
    "invscaling": "inverse_scaling inverse_time inverse_time_decay inverse_sqrt",
    "cosine": (
        "cosine_annealing cosine_annealing_lr cosine_decay cosine_schedule "
        "cosine_annealing_warm_restarts"
    ),
    "one_cycle": "one_cycle_lr 1cycle one_cycle_policy cyclic_lr",
    "step": "step_lr step_decay multi_step multi_step_lr piecewise_constant_decay",
    "exponential": "exponential_decay exponential_lr exp exp_decay",
    "plateau": "reduce_lr_on_plateau reduce_on_plateau",
    # averages of weights
    "polyak": "polyak_averaging polyak_ruppert asgd swa stochastic_weight_averaging mean",
    "ema": "exponential_moving_average exponential exp exp_decay",
    # initial weights
    "glorot_uniform": "glorot xavier xavier_uniform xavier_uniform_",
    "glorot_normal": "xavier_normal xavier_normal_",
    "he_uniform": "he kaiming kaiming_uniform kaiming_uniform_",
    "he_normal": "kaiming_normal kaiming_normal_",
    "lecun_uniform": "lecun",
    # normalization, input layers, encodings, class weights, dtypes
    "batch": "batch_norm batch_normalization batch_norm_1d",
    "layer": "layer_norm layer_normalization",
    "periodic": "plr fourier fourier_features random_fourier_features periodic_embedding",
    "one_hot": "dummy dummies",
    "balanced": "auto balanced_subsample",
    "float32": "single float fp32",
    "float64": "double fp64",
    # scorers
    "accuracy": "acc accuracy_score val_accuracy val_acc categorical_accuracy binary_accuracy",
    "balanced_accuracy": "balanced_accuracy_score bal_acc",
    "top_k_accuracy": "top_k_accuracy_score top_k_categorical_accuracy",
    "average_precision": "average_precision_score pr_auc aucpr auprc",
    "f1": "f1_score",
    "f1_macro": "macro_f1",
    "f1_micro": "micro_f1",
    "f1_weighted": "weighted_f1",
    "precision": "precision_score",
    "recall": "recall_score sensitivity tpr",
    "jaccard": "jaccard_score iou",
    "matthews_corrcoef": "mcc",
    "roc_auc": "auc roc_auc_score auroc",
    "r2": "r2_score r_squared",
    "explained_variance": "explained_variance_score",
    "neg_log_loss": "log_loss cross_entropy crossentropy binary_crossentropy mlogloss nll",
    "neg_brier_score": "brier brier_score brier_score_loss",
    "neg_mean_squared_error": "mse mean_squared_error squared_error",
    "neg_root_mean_squared_error": "rmse root_mean_squared_error",
    "neg_mean_absolute_error": "mae mean_absolute_error absolute_error",
    "neg_median_absolute_error": "median_absolute_error",
    "neg_mean_absolute_percentage_error": "mape mean_absolute_percentage_error",
    "neg_mean_squared_log_error": "msle mean_squared_log_error",
    "neg_root_mean_squared_log_error": "rmsle root_mean_squared_log_error",
    "neg_max_error": "max_error",
    "neg_mean_poisson_deviance": "mean_poisson_deviance poisson poisson_deviance",
    "neg_mean_gamma_deviance": "mean_gamma_deviance gamma gamma_deviance",
    "neg_negative_likelihood_ratio": "negative_likelihood_ratio",
    # parameters
    "learning_rate_init": (
        "lr learning_rate learn_rate eta eta0 base_lr max_lr initial_lr initial_learning_rate"
    ),
    "learning_rate": (
        "lr_scheduler lr_schedule scheduler schedule learning_rate_schedule decay lr_decay"
    ),
    "max_iter": (
        "epochs epoch n_epochs num_epochs max_epochs nb_epoch n_iter max_iterations n_iterations "
        "num_iterations iterations num_boost_round"
    ),
    "solver": "optimizer optim optimiser opt algorithm",
    "hidden_layer_sizes": (
        "hidden_layers hidden_layer hidden_sizes hidden_size hidden_units hidden_dim hidden_dims "
        "hidden layers layer_sizes units n_units num_units n_hidden neurons architecture"
    ),
    "activation": (
        "activations act activation_fn activation_function nonlinearity hidden_activation "
        "transfer_function"
    ),
    "loss": "criterion objective loss_fn loss_function loss_func cost cost_function val_loss",
    "alpha": (
        "weight_decay l2 l2_reg l2_regularization regularization reg_lambda lambda lambda_ penalty "
        "kernel_regularizer"
    ),
    "l1_ratio": "l1 l1_reg l1_regularization reg_alpha",
    "batch_size": "bs batch batchsize mini_batch_size minibatch_size",
    "random_state": "seed random_seed rng",
    "n_iter_no_change": "patience early_stopping_rounds num_early_stopping_rounds",
    "tol": "min_delta tolerance threshold",
    "early_stopping": "early_stop earlystopping use_early_stopping",
    "validation_fraction": (
        "validation_split val_split val_size val_fraction validation_size test_size train_split"
    ),
    "dropout": "dropout_rate drop_rate dropout_prob p_dropout dropout_p dropouts keep_prob",
    "normalization": (
        "batch_norm use_batch_norm batch_normalization layer_norm norm use_bn normalisation"
    ),
    "clip_norm": (
        "grad_clip gradient_clipping max_grad_norm grad_norm clip_grad clip_grad_norm "
        "gradient_clip_val gradient_clip max_norm global_clipnorm"
    ),
    "init": "initializer kernel_initializer weight_init weights_init init_method initialization",
    "class_weight": "class_weights scale_pos_weight is_unbalance",
    "label_smoothing": "smoothing label_smooth",
    "scale_target": "normalize_y scale_y standardize_y standardize_target target_scaler y_scaler",
    "n_estimators": "n_members n_networks n_models num_models ensemble_size n_ensemble k_ensemble",
    "average": "ema use_ema swa averaging polyak weight_averaging",
    "input_layers": "input_layer embedding embeddings num_embeddings",
    "time_limit": "timeout max_time time_budget max_seconds max_runtime_secs max_time_mins",
    "n_components": "latent_dim encoding_dim code_size n_latent bottleneck embedding_dim z_dim",
    "nesterovs_momentum": "nesterov use_nesterov",
    "warm_start": "warmstart continue_training",
    "verbose": "verbosity silent",
    "max_fun": "maxfun max_evals",
    "dtype": "precision",
    "categorical_features": (
        "cat_features categorical_feature categorical_columns cat_columns cat_cols cat_idxs"
    ),
    # parameters of searches and other meta-estimators
    "estimator": "model base_estimator regressor classifier clf",
    "param_grid": "params grid parameters param_distributions search_space param_space",
    "param_distributions": "params distributions parameters param_grid search_space param_space",
    "n_iter": "n_trials num_samples n_candidates",
    "n_candidates": "n_trials num_samples n_iter",
    "cv": "folds n_folds n_splits k_fold",
    "scoring": "scorer metric metrics eval_metric monitor",
    "n_jobs": "n_workers num_workers nthread n_threads workers",
    "factor": "eta reduction_factor gamma",
    "coverage": "confidence_level confidence level alpha",
    # settings of optimizers, schedules and others
    "beta_1": "beta1 b1",
    "beta_2": "beta2 b2",
    "epsilon": "eps",
    "momentum": "mu",
    "rho": "alpha decay smoothing_constant",
    "weight_decay": "wd l2 alpha lambda",
    "negative_slope": "slope leak alpha",
    "quantiles": "levels quantile q tau alpha level",
    "delta": "epsilon beta huber_slope",
    "power": "variance_power tweedie_variance_power p",
    "start_factor": "start",
    "final_factor": "eta_min min_lr end_lr final alpha gamma",
    "warmup_fraction": "pct_start warmup_steps warmup_epochs num_warmup_steps warmup length",
    "milestones": "boundaries step_size at",
    "smallest": "min_lr",
    "calibrate": "calibration temperature_scaling",
    # methods, and arguments of fit
    "set_callbacks": "callbacks callback",
    "X_val": "validation_data eval_set x_valid val_data valid_data",
    "sample_weight": "sample_weights weights weight w",
}

# Values of a wrong type, by parameter: what to write instead.
WRONG_KINDS: Mapping[str, Mapping[type, str]] = {
    "activation": {type(None): 'activation="identity"'},
    "learning_rate": {Real: "learning_rate_init={!r}"},
    "early_stopping": {
        str: "early_stopping=EarlyStopping({!r})",
        Real: "early_stopping=True, n_iter_no_change={!r}",
    },
    "normalization": {bool: 'normalization="batch"'},
}

# Minimum similarity of a misspelled synonym, from 0 to 1. Short synonyms resemble many words.
_NEAR = 0.8

# Words that resemble one of our names, but mean something else.
_NO_MISSPELLINGS = ("softmax", "log_softmax", "softsign", "log_loss", "adadelta")


def did_you_mean(given: Any, names: Iterable[str]) -> str:
    """Return the suggestion at the end of an error message about an unknown name.

    Parameters
    ----------
    given : object
        The value that is not a valid name. For classes, functions and other objects, such as
        ``torch.nn.ReLU``, their name or that of their class is used.
    names : iterable of str
        The valid names.

    Returns
    -------
    suggestion : str
        " Did you mean ...?" with the name that `nearest` finds; empty if it finds none.
    """
    name = nearest(given, names)
    return "" if name is None else f" Did you mean {name!r}?"


def nearest(given: Any, names: Iterable[str], is_exact: bool = False) -> str | None:
    """Return the most likely valid name: the same word, a synonym, or a similar spelling.

    With `is_exact` similar spellings are not considered.
    """
    is_word = isinstance(given, str)
    word = _plain(given if is_word else getattr(given, "__name__", type(given).__name__))
    valid = {_plain(name): name for name in names}
    meant = dict(_meanings(valid.values()))
    if word in valid or word in meant:
        return valid.get(word) or meant[word]
    if is_exact or not is_word or word in map(_plain, _NO_MISSPELLINGS):
        return None
    lower = {name.lower(): name for name in valid.values()}
    typed = given.lower().replace("-", "_").replace(" ", "_")
    for similar in get_close_matches(typed, lower, n=1):
        return lower[similar]
    for similar in get_close_matches(word, meant, n=1, cutoff=_NEAR):
        return meant[similar]
    return None


def instead_of(parameter: str, value: Any, scorers: Iterable[str] = ()) -> str:
    """Return the suggestion at the end of an error message about a value of a wrong type.

    Parameters
    ----------
    parameter : str
        The name of the parameter.
    value : object
        Its invalid value.
    scorers : iterable of str, default=()
        The valid names, if the value is to be the name of a scorer.
    """
    for kind, text in WRONG_KINDS.get(parameter, {}).items():
        if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
            meant = nearest(value, scorers) if isinstance(value, str) else value
            is_unknown = meant is None and value is not None
            return "" if is_unknown else f" Did you mean {text.format(meant)}?"
    return ""


def check_keywords(
    owner: type,
    method: Callable[..., Any],
    given: Mapping[str, Any],
    elsewhere: Iterable[str] = (),
) -> None:
    """Raise a TypeError with a suggestion if a method does not take a keyword argument.

    Parameters
    ----------
    owner : type
        The class of the method.
    method : callable
        The method, such as the constructor.
    given : mapping of str to object
        The keyword arguments of the call.
    elsewhere : iterable of str, default=()
        Names of the estimator, which are suggested if no argument is similar.
    """
    names = _keywords_of(method)
    if names is None or given.keys() <= names.keys():
        return
    wrong = next(name for name in given if name not in names)
    hint = ""
    for is_exact in (True, False):
        for whose, valid in (("", names), ("the estimator's ", elsewhere)):
            meant = nearest(wrong, valid, is_exact)
            if meant is not None and not hint:
                hint = f" Did you mean {whose}{meant!r}?"
    raise TypeError(
        f"{owner.__name__}.{method.__name__}() got an unexpected keyword argument {wrong!r}.{hint}"
    )


@cache
def _keywords_of(function: Callable[..., Any]) -> dict[str, None] | None:
    """Return the keyword arguments of a method, in order; None if it takes any."""
    _, *parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name: None for parameter in parameters}


def _meanings(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs (synonym, valid name), such that the first row of a synonym comes last."""
    names = set(names)
    for name, words in reversed(SYNONYMS.items()):
        if name in names:
            for word in words.split():
                yield _plain(word), name


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
