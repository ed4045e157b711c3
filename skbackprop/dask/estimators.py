"""Classifier and regressor for data on the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from distributed import Client

from ..activations import ActivationLike
from ..early_stopping import EarlyStopping
from ..estimators._decorators import available_if
from ..estimators._parameter_table import Parameter, get_constraints, get_parameters
from ..estimators.base import BaseNeuralNetwork
from ..estimators.classifier import BackpropClassifier, check_probabilities
from ..estimators.regressor import BackpropRegressor
from ..initializers import Initializer
from ..layers import LayersLike
from ..layers.normalization import Normalization
from ..losses.base import Loss
from ..losses.classification import ClassifierLoss
from ..optimizers import LBFGS, Optimizer
from ..schedules import LearningRateSchedule
from ..training.class_weight import ClassWeight
from ..training.weight_init import CoefsAndIntercepts
from ..utils._name_types import (
    AverageName,
    ClassifierLossName,
    InitializerName,
    NormalizationName,
    RegressorLossName,
    ScheduleName,
    SolverName,
)
from ..utils.arrays import Array
from ..weight_averaging import WeightAverage
from ._base import DaskEstimatorMixin


class DaskBackpropClassifier(DaskEstimatorMixin, BackpropClassifier):
    """Classifier trained on the workers of a Dask cluster, where the rows stay.

    Parameters and attributes are those of `BackpropClassifier`. ``X`` and ``y`` are Dask arrays or
    frames. Each worker computes gradients for the blocks that it holds, so the rows are never
    collected in one place. L-BFGS is not available. Predictions are lazy, block by block.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        The number of units in each hidden layer, each at least 1. ``()`` means no hidden layer: the
        network is then a logistic regression.
    activation : str, ActivationFunction or list of them, default="relu"
        The activation function of the hidden layers: one for all of them, or a list with one for
        each.

        - "identity": f(z) = z.
        - "logistic": f(z) = 1 / (1 + exp(-z)).
        - "tanh": f(z) = tanh(z).
        - "relu": f(z) = max(z, 0).
        - "leaky_relu": f(z) = max(z, 0.01 z).
        - "elu": f(z) = z where z > 0, else exp(z) - 1.
        - "selu": 1.0507 z where z > 0, else 1.7581 (exp(z) - 1).
        - "gelu": z times the normal distribution function of z.
        - "gelu_tanh": "gelu" approximated by tanh to three digits, which is faster.
        - "silu": f(z) = z / (1 + exp(-z)).
        - "mish": f(z) = z tanh(log(1 + exp(z))).
        - "softplus": f(z) = log(1 + exp(z)).

        Instances of `LeakyRelu` and `Elu` have settings of their own.
    loss : str or ClassifierLoss, default="log_loss"
        The loss function to minimize, averaged over the rows. In the formulas, class k has the
        probability p_k and the decision value s_k; for the class of the row, y_k = 1 and t_k = 1,
        for other classes y_k = 0 and t_k = -1.

        - "log_loss": cross-entropy, ``-sum_k y_k log(p_k)``.
        - "brier": ``1/2 sum_k (p_k - y_k)**2``.
        - "focal": ``-sum_k y_k (1 - p_k)**2 log(p_k)`` (Lin et al. 2017); `Focal` takes other
          exponents.
        - "hinge": ``sum_k max(0, 1 - t_k s_k)``, one-vs-rest. It yields decision values without
          probabilities, so `predict_proba` is not available.
        - "squared_hinge": ``sum_k max(0, 1 - t_k s_k)**2``, without probabilities as well.
    solver : str, Optimizer or LBFGS, default="adam"
        The optimization algorithm: a stochastic optimizer or "lbfgs". Instances, such as
        ``AdamW(weight_decay=0.1)``, have settings of their own; solvers given by name use
        parameters of the estimator, such as ``momentum`` and ``beta_1``.

        - "adam": adaptive moments (Kingma & Ba 2015).
        - "adamw": "adam" with decoupled weight decay (Loshchilov & Hutter 2019), in addition to the
          penalty ``alpha``.
        - "nadam": "adam" with Nesterov's momentum (Dozat 2016).
        - "amsgrad": "adam" with the largest second moment so far (Reddi et al. 2018).
        - "rmsprop": steps divided by the root of a running mean of squared gradients (Tieleman &
          Hinton 2012).
        - "adagrad": steps divided by the root of the sum of squared gradients (Duchi et al. 2011).
        - "sgd": stochastic gradient descent with momentum.
        - "lbfgs": L-BFGS on all rows at once (Byrd et al. 1995); suits small data.
    alpha : float, default=0.0001
        The strength of the L2 penalty ``alpha / 2 * sum(W**2) / w``, non-negative, where w is the
        total sample weight of a batch. The penalty therefore depends on the batch size and on the
        scale of the sample weights. Intercepts are not penalized. `l1_ratio` makes a share of the
        penalty an L1 penalty. The weight decay of `AdamW` depends on neither batch size nor sample
        weights.
    batch_size : int or "auto", default="auto"
        The number of rows in a batch, at least 1; "auto" means ``min(200, n_samples)``. Not used by
        "lbfgs".
    learning_rate : str, LearningRateSchedule or callable, default="constant"
        The learning rate schedule. The first three names apply to ``solver="sgd"`` only; the other
        names, instances and callables apply to every stochastic solver. The progress p is the
        number of completed epochs divided by ``max_iter``; with `partial_fit`, each call is an
        epoch.

        - "constant": ``learning_rate_init``.
        - "invscaling": ``learning_rate_init / (1 + t)**power_t`` after t rows.
        - "adaptive": ``learning_rate_init``, divided by 5 whenever the training loss (with
          ``early_stopping``, the validation score) has not improved by ``tol`` for more than
          ``n_iter_no_change`` epochs. Training stops when this happens at a rate of 1e-6 or less.
        - "cosine": ``learning_rate_init * (1 + cos(pi * p)) / 2`` (Loshchilov & Hutter 2017).
        - "one_cycle": rises to ``learning_rate_init`` during 30 % of training, then falls to almost
          zero (Smith & Topin 2018).
        - "step": ``learning_rate_init``, divided by 10 from p = 0.5 on and by 100 from p = 0.75 on.
        - "exponential": ``learning_rate_init * 0.01**p``.
        - "plateau": ``learning_rate_init``, divided by 10 whenever the loss or score has not
          improved by ``tol`` for more than 5 epochs.
        - a callable: ``learning_rate_init`` times its return value for p.

        These instances have settings of their own: `ConstantRate`, `InverseScaling`, `Adaptive`,
        `CosineDecay`, `OneCycle`, `StepDecay`, `ExponentialDecay`, `ReduceOnPlateau`, and
        `LinearWarmup` before any of them.
    learning_rate_init : float, default=0.001
        The learning rate that schedules start from or rise to, positive. `find_learning_rate`
        suggests one.
    power_t : float, default=0.5
        The exponent of "invscaling", non-negative.
    max_iter : int, default=200
        The maximum number of epochs, or of iterations of "lbfgs", at least 1.
    shuffle : bool, default=True
        Whether to shuffle the rows before each epoch.
    random_state : int, RandomState instance or None, default=None
        The random number generator for the initial weights, the validation rows and the order of
        the rows. Pass an int for reproducible results. None uses NumPy's global generator, as
        seeded by `numpy.random.seed`.
    tol : float, default=0.0001
        The minimum improvement of the loss or score that counts as progress, non-negative. "lbfgs"
        also converges when no component of the gradient is larger than `tol`.
    verbose : bool or int, default=False
        Whether to print the loss of every epoch. As in scikit-learn, all true values have the same
        effect.
    warm_start : bool, default=False
        Whether `fit` continues the previous training, with its weights, moments, random state, row
        order and lowered learning rates. The progress of the schedule and the stopping rules start
        again.
    momentum : float, default=0.9
        The momentum of "sgd", in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether "sgd" uses Nesterov's momentum.
    early_stopping : bool or EarlyStopping, default=False
        Whether to hold out validation rows, to stop when their score (the accuracy) has not
        improved by ``tol`` for more than ``n_iter_no_change`` epochs, and to keep the weights of
        the best epoch. An instance of `EarlyStopping` can use another score and has settings of its
        own. If `fit` gets ``X_val``, no rows are held out and ``X_val`` is the validation data.
        `partial_fit` keeps the weights of the call with the best score of ``X_val``.
    validation_fraction : float or int, default=0.1
        The share of rows to hold out, in [0, 1), or their number, an int of at least 2. At least
        two rows are held out.
    beta_1 : float, default=0.9
        The decay rate of the first moment of "adam", "adamw", "nadam" and "amsgrad", in [0, 1).
    beta_2 : float, default=0.999
        The decay rate of the second moment of "adam", "adamw", "nadam" and "amsgrad", in [0, 1).
    epsilon : float, default=1e-08
        Small positive constant added to the denominator for numerical stability, in "adam",
        "adamw", "nadam", "amsgrad", "rmsprop" and "adagrad".
    n_iter_no_change : int or np.inf, default=10
        The number of epochs without progress after which training stops, at least 1. With
        ``np.inf``, training takes exactly ``max_iter`` epochs, without a warning about convergence.
        "lbfgs" stops after ten times as many iterations without progress.
    max_fun : int, default=15000
        The maximum number of evaluations of the loss by "lbfgs", at least 1. `LBFGS` has more
        settings.
    n_estimators : int, default=1
        The number of networks, at least 1. Several networks form a deep ensemble (Lakshminarayanan
        et al. 2017): each member has its own seed, and so its own initial weights, row order and
        validation rows. The members are trained together, and their predictions (probabilities, for
        a classifier) are averaged. The first member equals the network of ``n_estimators=1``.
    class_weight : dict, "balanced" or None, default=None
        The weight of each class, for imbalanced data. It multiplies the sample weights in training,
        in ``loss_curve_`` and in the scores of ``early_stopping``. None means 1 for each class.
        "balanced" gives a class the weight ``n / (n_classes * n_c)``, where n and n_c are the total
        `sample_weight` of all rows and of the rows of the class, as in scikit-learn's
        `LogisticRegression`. In a dict, such as ``{"sick": 10}``, missing classes have weight 1. A
        0/1 matrix has only "balanced": the weight of a row is the product over the columns, as in
        scikit-learn's trees. "balanced" needs all rows, so `partial_fit` does not accept it.
    label_smoothing : float, default=0.0
        The share e of each target that is spread evenly over all classes, in [0, 1). The targets
        are ``(1 - e) y + e / K`` for K classes, and ``(1 - e) y + e / 2`` for two classes and for
        each column of a 0/1 matrix (Szegedy et al. 2016, section 7). Losses use the smoothed
        targets, scores the true labels. Not available for the hinge losses.
    l1_ratio : float, default=0.0
        The share of the L1 penalty, in [0, 1], as in scikit-learn's `ElasticNet`: the penalty is
        ``alpha * (l1_ratio * sum(|W|) + (1 - l1_ratio) / 2 * sum(W**2)) / w``, with w as in
        `alpha`. "lbfgs" finds weights that are exactly zero; with stochastic solvers, weights only
        come close to zero.
    clip_norm : float or None, default=None
        The maximum norm of the gradient in each step, penalty included, positive. A longer gradient
        is scaled down to it (Pascanu et al. 2013, algorithm 1). None disables clipping. Not used by
        "lbfgs".
    layers : {"scale", "periodic"}, Layer, list of these or None, default=None
        Layers between the input and the hidden dense layers, in this order; None for none. Their
        output is flattened. Objects of `skbackprop.layers`, such as ``Conv2D(16, 3)`` or
        ``GRU(64)``, have settings and initial weights of their own. `init`, `normalization` and
        `dropout` apply to the dense layers that follow, except that the first rate of a `dropout`
        sequence applies to X. The penalty acts on kernels and dense weights. X must be dense.

        - "scale": a learned factor for each input.
        - "periodic": sines and cosines of each input with learned frequencies, mapped to a few
          outputs, and the inputs themselves (Gorishniy, Rubachev & Babenko 2022).
    input_shape : tuple of int or None, default=None
        The shape of one row of X for `layers`: ``(height, width)`` or ``(height, width, channels)``
        for images, ``(steps, channels)`` for sequences. X of shape (n, d) is reshaped to it in C
        order. None uses the shape of the rows of X.
    dropout : float or sequence of float, default=0.0
        The share of units that each training step drops at random, in [0, 1): one rate for all
        hidden layers, or a sequence with a rate for the input and one for each hidden layer. The
        other units are scaled up, so predictions need no correction (Srivastava et al. 2014).
        Training losses include the effect of dropout. A warm start may change the rates. Not
        available for "lbfgs".
    normalization : {"batch", "layer"}, Normalization or None, default=None
        The normalization of the input of each hidden layer's activation, followed by learned gains
        and intercepts. Instances, such as `BatchNormalization`, have settings of their own.

        - "batch": batch normalization by weighted statistics of the batch, with running statistics
          for predictions (Ioffe & Szegedy 2015). Not available for "lbfgs".
        - "layer": layer normalization, over the units of each row (Ba et al. 2016).
    average : {"polyak", "ema"}, WeightAverage or None, default=None
        The average of the weights over the steps that is kept as the fitted weights and scored with
        ``early_stopping``. Training itself continues from the weights that are not averaged. Not
        used by "lbfgs". Instances, such as `PolyakAverage` and `ExponentialMovingAverage`, have
        settings of their own.

        - None: no averaging; the weights of the last step are kept.
        - "polyak": the mean over all steps, as in scikit-learn's `SGDClassifier` (Polyak & Juditsky
          1992).
        - "ema": an exponential moving average with a decay of 0.99 (Kingma & Ba 2015, section 7.2).
    init : str, Initializer or pair (coefs, intercepts), default="auto"
        The initial weights. "auto" depends on the activation. For the activations of scikit-learn,
        it draws weights and intercepts as scikit-learn does, uniformly within ``sqrt(c / (fan_in +
        fan_out))`` with c = 2 for "logistic" and 6 for "identity", "tanh" and "relu". For other
        activations, it draws weights with the variance at which a layer preserves the second moment
        of its input (He et al. 2015), and sets intercepts to zero. For the output layer, "auto"
        uses the activation of the last hidden layer. "glorot_uniform", "glorot_normal",
        "he_uniform", "he_normal", "lecun_uniform" and "lecun_normal" are the schemes of these
        names, with intercepts of zero. A pair holds an array for each layer, of shape (fan_in,
        fan_out) and (fan_out,); an additional first axis holds a separate array for each member.
    time_limit : float or None, default=None
        The maximum training time of `fit` in seconds, positive; None for no limit. It is checked
        before each batch. Once it is exceeded, `fit` keeps the weights of the last complete epoch,
        or with ``early_stopping`` of the best epoch, and issues a ConvergenceWarning. If no epoch
        is complete, `fit` keeps the current weights, and ``n_iter_`` is 0. `partial_fit` has no
        time limit.
    dtype : {"float32", "float64"} or None, default=None
        The floating-point type of the computations. None uses float32 for float32 X, else float64.
        float32 is about twice as fast for large networks.
    client : distributed.Client, default=None
        The client of the cluster. None uses the current client: the last one created in this
        process.
    sync_every : int, default=10
        The number of steps between two synchronizations of the workers, at least 1. With 1 each
        step is synchronous: the workers share a batch of ``batch_size`` rows, and the step uses the
        sum of their gradients (Dean et al. 2012). With more, training is local SGD (Stich 2019):
        each worker makes `sync_every` steps on batches of about ``batch_size`` of its own rows, and
        then the weights and the state of the optimizer are averaged over the workers. The workers
        also synchronize at the end of each epoch. The default of 10 trains on four to six times as
        many rows per second as 1 (measured).

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The sorted class labels; for a 0/1 matrix, the numbers of its columns.
    coefs_ : list of arrays of shape (fan_in, fan_out)
        The weights of each layer, or (n_estimators, fan_in, fan_out) with several members. They can
        be assigned, as a whole or by item: prediction and further training use the new values. With
        ``average``, they are the averaged weights.
    intercepts_ : list of arrays of shape (fan_out,)
        The intercepts of each layer. They can be assigned as well.
    gains_ : list of arrays of shape (units,), or None
        The learned gains of the normalized hidden units; None without `normalization`.
    running_means_, running_variances_ : list of arrays of shape (units,), or None
        The running statistics of batch normalization, used in predictions; None without batch
        normalization. With ``early_stopping``, they are from the best epoch; with `average`, they
        are averaged.
    scales_ : list of arrays of shape (n_inputs,)
        The factors of each `layers.Scale` in `layers`. Only available with such a layer.
    frequencies_, maps_ : list of arrays
        The frequencies, of shape (n_embedded, n_frequencies), and the matrices, of shape
        (n_embedded, 2 * n_frequencies, n_units), of each `layers.PeriodicEmbedding` in `layers`.
        Only available with such a layer.
    embeddings_ : list with an array of shape (n_levels, n_units)
        The embedding vectors of the `layers.CategoricalEmbedding` in `layers`, with a row for each
        level of the first column, then of the second, and so on. Only available with such a layer.
    temperature_ : float
        The divisor of the raw predictions that calibrates the probabilities on held-out rows, with
        ``early_stopping=EarlyStopping(calibrate=True)``; else 1.0. The last ``coefs_`` and
        ``intercepts_`` are already divided by it.
    loss_ : float, or array of shape (n_estimators,)
        The mean loss over the batches of the last epoch, penalty included. With ``average``, it is
        the loss of the weights that are not averaged.
    best_loss_ : float or None, or array of shape (n_estimators,)
        The lowest loss of the last call of `fit`, or of all calls of `partial_fit`; None with
        ``early_stopping``.
    loss_curve_ : list of float, or one such list for each member
        The training loss of every epoch so far.
    validation_loss_curve_ : list of float, one such list for each member, or None
        The loss of the held-out rows, or of ``X_val``, after every epoch with validation data,
        without the penalty; None without validation data.
    validation_scores_ : list of float, one such list for each member, or None
        The score of the validation data after each epoch with validation data; None without
        ``early_stopping``.
    best_validation_score_ : float or None, or array of shape (n_estimators,)
        The validation score of the weights that are kept; NaN if `fit` scored no epoch, None
        without ``early_stopping``.
    n_iter_ : int, or array of shape (n_estimators,)
        The number of epochs or iterations in the last call.
    best_iter_ : int, or array of shape (n_estimators,)
        The epoch whose weights are kept, counted in the last call: the best epoch with
        ``early_stopping``, else ``n_iter_``. For calls of `partial_fit` with ``X_val``, it is a
        position in ``validation_scores_``, counted from 1.
    converged_ : bool, or array of shape (n_estimators,)
        Whether a stopping rule ended training; False if ``max_iter``, ``time_limit``, Ctrl-C or a
        callback did. After `partial_fit`, which never stops by itself, whether the score of
        ``X_val`` no longer improves.
    t_ : int, or array of shape (n_estimators,)
        The number of training rows processed by stochastic solvers, over all epochs.
    n_layers_ : int
        The number of layers, including input and output.
    n_outputs_ : int
        The number of units in the output layer.
    n_parameters_ : int
        The number of learned parameters: weights, biases, and the gains of normalized layers. With
        several members, it is the number for one member.
    out_activation_ : str
        The output activation: "softmax", "logistic" or, for losses without probabilities,
        "identity". With the loss "log_loss" it can be set after `fit` to "identity", "logistic",
        "softmax", "tanh", "relu" or "exp", which changes predictions.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, if all names of X's columns are strings.

    See Also
    --------
    BackpropClassifier : The local estimator; `to_local` returns one.

    References
    ----------
    Dean, J. et al. (2012). Large scale distributed deep networks. NeurIPS.

    Stich, S. U. (2019). Local SGD converges fast and communicates little. ICLR.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from distributed import Client, LocalCluster
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop.dask import DaskBackpropClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> X, y = da.from_array(X, chunks=(50, -1)), da.from_array(y, chunks=50)
    >>> model = DaskBackpropClassifier(
    ...     (16,),
    ...     sync_every=1,
    ...     batch_size=50,
    ...     learning_rate_init=0.05,
    ...     max_iter=30,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    >>> with LocalCluster(**settings, dashboard_address=":0") as cluster, Client(cluster):
    ...     score = model.fit(X, y).score(X, y)
    >>> score > 0.9
    True
    """

    _parameter_table: ClassVar[dict[str, Parameter]] = get_parameters("dask_classifier")
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = get_constraints("dask_classifier")
    _local: ClassVar[type[BaseNeuralNetwork]] = BackpropClassifier

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] | Array = (100,),
        activation: ActivationLike | Sequence[ActivationLike] = "relu",
        *,
        loss: ClassifierLossName | ClassifierLoss = "log_loss",
        solver: SolverName | Optimizer | LBFGS = "adam",
        alpha: float = 0.0001,
        batch_size: Literal["auto"] | int = "auto",
        learning_rate: ScheduleName | LearningRateSchedule | Callable[[float], float] = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 0.0001,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool | EarlyStopping = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-08,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        n_estimators: int = 1,
        class_weight: ClassWeight | None = None,
        label_smoothing: float = 0.0,
        l1_ratio: float = 0.0,
        clip_norm: float | None = None,
        layers: LayersLike | None = None,
        input_shape: int | Sequence[int] | None = None,
        dropout: float | Sequence[float] | Array = 0.0,
        normalization: NormalizationName | Normalization | None = None,
        average: AverageName | WeightAverage | None = None,
        init: Literal["auto"] | InitializerName | Initializer | CoefsAndIntercepts = "auto",
        time_limit: float | None = None,
        dtype: Literal["float32", "float64"] | None = None,
        client: Client | None = None,
        sync_every: int = 10,
    ) -> None:
        values = locals()
        inherited = get_parameters("classifier")
        super().__init__(**{name: values[name] for name in inherited})
        self.client = client
        self.sync_every = sync_every

    # ------------------------------------------------------------------ prediction

    def predict(self, X: Any) -> Any:
        """Predict the most probable label of each row, lazily for Dask input.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.

        Returns
        -------
        y : Dask array, or array, of shape (n_samples,) or (n_samples, n_outputs)
            The labels; for Dask input a lazy array with the blocks of X.
        """
        return self._map("predict", X)

    def decision_function(self, X: Any) -> Any:
        """Return the decision values of each row, lazily for Dask input.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.

        Returns
        -------
        scores : Dask array, or array, or list of such arrays
            The output of the local estimator; for Dask input a lazy array.
        """
        return self._map("decision_function", X)

    @available_if(check_probabilities)
    def predict_proba(self, X: Any) -> Any:
        """Predict the probability of each class, lazily for Dask input.

        The method is absent if the loss has no probabilities.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.

        Returns
        -------
        probabilities : Dask array, or array, or list of such arrays
            The output of the local estimator; for Dask input a lazy array.
        """
        return self._map("predict_proba", X)

    @available_if(check_probabilities)
    def predict_log_proba(self, X: Any) -> Any:
        """Predict the logarithm of the probability of each class, lazily for Dask input.

        The method is absent if the loss has no probabilities.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.

        Returns
        -------
        log_probabilities : Dask array, or array, or list of such arrays
            The output of the local estimator; for Dask input a lazy array.
        """
        return self._map("predict_log_proba", X)

    def input_gradient(self, X: Any, of: str = "score") -> Any:
        """Return the gradient of the output for each row, lazily for Dask input.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.
        of : {"score", "probability"}, default="score"
            The output to differentiate.

        Returns
        -------
        gradient : Dask array, or array, or list of such arrays
            The output of the local estimator; for Dask input a lazy array.
        """
        return self._map("input_gradient", X, of)


class DaskBackpropRegressor(DaskEstimatorMixin, BackpropRegressor):
    """Regressor trained on the workers of a Dask cluster, where the rows stay.

    Parameters and attributes are those of `BackpropRegressor`. ``X`` and ``y`` are Dask arrays or
    frames. Each worker computes gradients for the blocks that it holds, so the rows are never
    collected in one place. L-BFGS is not available. Predictions are lazy, block by block.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        The number of units in each hidden layer, each at least 1. ``()`` means no hidden layer: the
        network is then a linear regression.
    activation : str, ActivationFunction or list of them, default="relu"
        The activation function of the hidden layers: one for all of them, or a list with one for
        each.

        - "identity": f(z) = z.
        - "logistic": f(z) = 1 / (1 + exp(-z)).
        - "tanh": f(z) = tanh(z).
        - "relu": f(z) = max(z, 0).
        - "leaky_relu": f(z) = max(z, 0.01 z).
        - "elu": f(z) = z where z > 0, else exp(z) - 1.
        - "selu": 1.0507 z where z > 0, else 1.7581 (exp(z) - 1).
        - "gelu": z times the normal distribution function of z.
        - "gelu_tanh": "gelu" approximated by tanh to three digits, which is faster.
        - "silu": f(z) = z / (1 + exp(-z)).
        - "mish": f(z) = z tanh(log(1 + exp(z))).
        - "softplus": f(z) = log(1 + exp(z)).

        Instances of `LeakyRelu` and `Elu` have settings of their own.
    loss : str or Loss, default="squared_error"
        The loss function to minimize, averaged over the rows and summed over the targets. The
        reported loss, which is compared with ``tol``, is averaged over rows and targets ("poisson":
        summed over the targets). In the formulas, s is the output of the network, r = s - y the
        residual, and m = exp(s) a positive prediction.

        - "squared_error": ``r**2 / 2``, minimized by the mean.
        - "absolute_error": ``abs(r)``, minimized by the median.
        - "huber": ``r**2 / 2`` up to a residual of one, then linear; `Huber` has the bound as a
          parameter (Huber 1964).
        - "log_cosh": ``log(cosh(r))``, a smooth alternative to "huber" (Saleh & Saleh 2022).
        - "quantile": the median; `Quantile` takes other levels, and several at once (Koenker &
          Bassett 1978).
        - "poisson": half the Poisson deviance, ``m - y s + y log(y) - y``, for y >= 0.
        - "gamma": half the gamma deviance, ``s - log(y) + y / m - 1``, for y > 0.
        - "tweedie": half the Tweedie deviance of power 1.5, for y >= 0; `Tweedie` takes other
          powers (Jørgensen 1987).
        - "gaussian": the negative log likelihood of a mean and a variance that depend on x;
          `Gaussian` has the minimum variance as a parameter (Nix & Weigend 1994).
    solver : str, Optimizer or LBFGS, default="adam"
        The optimization algorithm: a stochastic optimizer or "lbfgs". Instances, such as
        ``AdamW(weight_decay=0.1)``, have settings of their own; solvers given by name use
        parameters of the estimator, such as ``momentum`` and ``beta_1``.

        - "adam": adaptive moments (Kingma & Ba 2015).
        - "adamw": "adam" with decoupled weight decay (Loshchilov & Hutter 2019), in addition to the
          penalty ``alpha``.
        - "nadam": "adam" with Nesterov's momentum (Dozat 2016).
        - "amsgrad": "adam" with the largest second moment so far (Reddi et al. 2018).
        - "rmsprop": steps divided by the root of a running mean of squared gradients (Tieleman &
          Hinton 2012).
        - "adagrad": steps divided by the root of the sum of squared gradients (Duchi et al. 2011).
        - "sgd": stochastic gradient descent with momentum.
        - "lbfgs": L-BFGS on all rows at once (Byrd et al. 1995); suits small data.
    alpha : float, default=0.0001
        The strength of the L2 penalty ``alpha / 2 * sum(W**2) / w``, non-negative, where w is the
        total sample weight of a batch. The penalty therefore depends on the batch size and on the
        scale of the sample weights. Intercepts are not penalized. `l1_ratio` makes a share of the
        penalty an L1 penalty. The weight decay of `AdamW` depends on neither batch size nor sample
        weights.
    batch_size : int or "auto", default="auto"
        The number of rows in a batch, at least 1; "auto" means ``min(200, n_samples)``. Not used by
        "lbfgs".
    learning_rate : str, LearningRateSchedule or callable, default="constant"
        The learning rate schedule. The first three names apply to ``solver="sgd"`` only; the other
        names, instances and callables apply to every stochastic solver. The progress p is the
        number of completed epochs divided by ``max_iter``; with `partial_fit`, each call is an
        epoch.

        - "constant": ``learning_rate_init``.
        - "invscaling": ``learning_rate_init / (1 + t)**power_t`` after t rows.
        - "adaptive": ``learning_rate_init``, divided by 5 whenever the training loss (with
          ``early_stopping``, the validation score) has not improved by ``tol`` for more than
          ``n_iter_no_change`` epochs. Training stops when this happens at a rate of 1e-6 or less.
        - "cosine": ``learning_rate_init * (1 + cos(pi * p)) / 2`` (Loshchilov & Hutter 2017).
        - "one_cycle": rises to ``learning_rate_init`` during 30 % of training, then falls to almost
          zero (Smith & Topin 2018).
        - "step": ``learning_rate_init``, divided by 10 from p = 0.5 on and by 100 from p = 0.75 on.
        - "exponential": ``learning_rate_init * 0.01**p``.
        - "plateau": ``learning_rate_init``, divided by 10 whenever the loss or score has not
          improved by ``tol`` for more than 5 epochs.
        - a callable: ``learning_rate_init`` times its return value for p.

        These instances have settings of their own: `ConstantRate`, `InverseScaling`, `Adaptive`,
        `CosineDecay`, `OneCycle`, `StepDecay`, `ExponentialDecay`, `ReduceOnPlateau`, and
        `LinearWarmup` before any of them.
    learning_rate_init : float, default=0.001
        The learning rate that schedules start from or rise to, positive. `find_learning_rate`
        suggests one.
    power_t : float, default=0.5
        The exponent of "invscaling", non-negative.
    max_iter : int, default=200
        The maximum number of epochs, or of iterations of "lbfgs", at least 1.
    shuffle : bool, default=True
        Whether to shuffle the rows before each epoch.
    random_state : int, RandomState instance or None, default=None
        The random number generator for the initial weights, the validation rows and the order of
        the rows. Pass an int for reproducible results. None uses NumPy's global generator, as
        seeded by `numpy.random.seed`.
    tol : float, default=0.0001
        The minimum improvement of the loss or score that counts as progress, non-negative. "lbfgs"
        also converges when no component of the gradient is larger than `tol`.
    verbose : bool or int, default=False
        Whether to print the loss of every epoch. As in scikit-learn, all true values have the same
        effect.
    warm_start : bool, default=False
        Whether `fit` continues the previous training, with its weights, moments, random state, row
        order and lowered learning rates. The progress of the schedule and the stopping rules start
        again.
    momentum : float, default=0.9
        The momentum of "sgd", in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether "sgd" uses Nesterov's momentum.
    early_stopping : bool or EarlyStopping, default=False
        Whether to hold out validation rows, to stop when their score (R2, or D2 of another loss)
        has not improved by ``tol`` for more than ``n_iter_no_change`` epochs, and to keep the
        weights of the best epoch. An instance of `EarlyStopping` can use another score and has
        settings of its own. If `fit` gets ``X_val``, no rows are held out and ``X_val`` is the
        validation data. `partial_fit` keeps the weights of the call with the best score of
        ``X_val``.
    validation_fraction : float or int, default=0.1
        The share of rows to hold out, in [0, 1), or their number, an int of at least 2. At least
        two rows are held out.
    beta_1 : float, default=0.9
        The decay rate of the first moment of "adam", "adamw", "nadam" and "amsgrad", in [0, 1).
    beta_2 : float, default=0.999
        The decay rate of the second moment of "adam", "adamw", "nadam" and "amsgrad", in [0, 1).
    epsilon : float, default=1e-08
        Small positive constant added to the denominator for numerical stability, in "adam",
        "adamw", "nadam", "amsgrad", "rmsprop" and "adagrad".
    n_iter_no_change : int or np.inf, default=10
        The number of epochs without progress after which training stops, at least 1. With
        ``np.inf``, training takes exactly ``max_iter`` epochs, without a warning about convergence.
        "lbfgs" stops after ten times as many iterations without progress.
    max_fun : int, default=15000
        The maximum number of evaluations of the loss by "lbfgs", at least 1. `LBFGS` has more
        settings.
    n_estimators : int, default=1
        The number of networks, at least 1. Several networks form a deep ensemble (Lakshminarayanan
        et al. 2017): each member has its own seed, and so its own initial weights, row order and
        validation rows. The members are trained together, and their predictions (probabilities, for
        a classifier) are averaged. The first member equals the network of ``n_estimators=1``.
    scale_target : bool, default=False
        Whether to train on targets scaled to mean zero and standard deviation one. Predictions are
        in the units of y. Mean and scale are learned in the first call of `fit` or `partial_fit`
        and stay the same in further training. For losses of non-negative targets ("poisson",
        "gamma", "tweedie"), y is divided by its mean instead. Reported losses, ``tol`` and the
        parameters of a loss refer to the scaled targets.
    l1_ratio : float, default=0.0
        The share of the L1 penalty, in [0, 1], as in scikit-learn's `ElasticNet`: the penalty is
        ``alpha * (l1_ratio * sum(|W|) + (1 - l1_ratio) / 2 * sum(W**2)) / w``, with w as in
        `alpha`. "lbfgs" finds weights that are exactly zero; with stochastic solvers, weights only
        come close to zero.
    clip_norm : float or None, default=None
        The maximum norm of the gradient in each step, penalty included, positive. A longer gradient
        is scaled down to it (Pascanu et al. 2013, algorithm 1). None disables clipping. Not used by
        "lbfgs".
    layers : {"scale", "periodic"}, Layer, list of these or None, default=None
        Layers between the input and the hidden dense layers, in this order; None for none. Their
        output is flattened. Objects of `skbackprop.layers`, such as ``Conv2D(16, 3)`` or
        ``GRU(64)``, have settings and initial weights of their own. `init`, `normalization` and
        `dropout` apply to the dense layers that follow, except that the first rate of a `dropout`
        sequence applies to X. The penalty acts on kernels and dense weights. X must be dense.

        - "scale": a learned factor for each input.
        - "periodic": sines and cosines of each input with learned frequencies, mapped to a few
          outputs, and the inputs themselves (Gorishniy, Rubachev & Babenko 2022).
    input_shape : tuple of int or None, default=None
        The shape of one row of X for `layers`: ``(height, width)`` or ``(height, width, channels)``
        for images, ``(steps, channels)`` for sequences. X of shape (n, d) is reshaped to it in C
        order. None uses the shape of the rows of X.
    dropout : float or sequence of float, default=0.0
        The share of units that each training step drops at random, in [0, 1): one rate for all
        hidden layers, or a sequence with a rate for the input and one for each hidden layer. The
        other units are scaled up, so predictions need no correction (Srivastava et al. 2014).
        Training losses include the effect of dropout. A warm start may change the rates. Not
        available for "lbfgs".
    normalization : {"batch", "layer"}, Normalization or None, default=None
        The normalization of the input of each hidden layer's activation, followed by learned gains
        and intercepts. Instances, such as `BatchNormalization`, have settings of their own.

        - "batch": batch normalization by weighted statistics of the batch, with running statistics
          for predictions (Ioffe & Szegedy 2015). Not available for "lbfgs".
        - "layer": layer normalization, over the units of each row (Ba et al. 2016).
    average : {"polyak", "ema"}, WeightAverage or None, default=None
        The average of the weights over the steps that is kept as the fitted weights and scored with
        ``early_stopping``. Training itself continues from the weights that are not averaged. Not
        used by "lbfgs". Instances, such as `PolyakAverage` and `ExponentialMovingAverage`, have
        settings of their own.

        - None: no averaging; the weights of the last step are kept.
        - "polyak": the mean over all steps, as in scikit-learn's `SGDClassifier` (Polyak & Juditsky
          1992).
        - "ema": an exponential moving average with a decay of 0.99 (Kingma & Ba 2015, section 7.2).
    init : str, Initializer or pair (coefs, intercepts), default="auto"
        The initial weights. "auto" depends on the activation. For the activations of scikit-learn,
        it draws weights and intercepts as scikit-learn does, uniformly within ``sqrt(c / (fan_in +
        fan_out))`` with c = 2 for "logistic" and 6 for "identity", "tanh" and "relu". For other
        activations, it draws weights with the variance at which a layer preserves the second moment
        of its input (He et al. 2015), and sets intercepts to zero. For the output layer, "auto"
        uses the activation of the last hidden layer. "glorot_uniform", "glorot_normal",
        "he_uniform", "he_normal", "lecun_uniform" and "lecun_normal" are the schemes of these
        names, with intercepts of zero. A pair holds an array for each layer, of shape (fan_in,
        fan_out) and (fan_out,); an additional first axis holds a separate array for each member.
    time_limit : float or None, default=None
        The maximum training time of `fit` in seconds, positive; None for no limit. It is checked
        before each batch. Once it is exceeded, `fit` keeps the weights of the last complete epoch,
        or with ``early_stopping`` of the best epoch, and issues a ConvergenceWarning. If no epoch
        is complete, `fit` keeps the current weights, and ``n_iter_`` is 0. `partial_fit` has no
        time limit.
    dtype : {"float32", "float64"} or None, default=None
        The floating-point type of the computations. None uses float32 for float32 X, else float64.
        float32 is about twice as fast for large networks.
    client : distributed.Client, default=None
        The client of the cluster. None uses the current client: the last one created in this
        process.
    sync_every : int, default=10
        The number of steps between two synchronizations of the workers, at least 1. With 1 each
        step is synchronous: the workers share a batch of ``batch_size`` rows, and the step uses the
        sum of their gradients (Dean et al. 2012). With more, training is local SGD (Stich 2019):
        each worker makes `sync_every` steps on batches of about ``batch_size`` of its own rows, and
        then the weights and the state of the optimizer are averaged over the workers. The workers
        also synchronize at the end of each epoch. The default of 10 trains on four to six times as
        many rows per second as 1 (measured).

    Attributes
    ----------
    coefs_ : list of arrays of shape (fan_in, fan_out)
        The weights of each layer, or (n_estimators, fan_in, fan_out) with several members. They can
        be assigned, as a whole or by item: prediction and further training use the new values. With
        ``average``, they are the averaged weights.
    intercepts_ : list of arrays of shape (fan_out,)
        The intercepts of each layer. They can be assigned as well.
    gains_ : list of arrays of shape (units,), or None
        The learned gains of the normalized hidden units; None without `normalization`.
    running_means_, running_variances_ : list of arrays of shape (units,), or None
        The running statistics of batch normalization, used in predictions; None without batch
        normalization. With ``early_stopping``, they are from the best epoch; with `average`, they
        are averaged.
    scales_ : list of arrays of shape (n_inputs,)
        The factors of each `layers.Scale` in `layers`. Only available with such a layer.
    frequencies_, maps_ : list of arrays
        The frequencies, of shape (n_embedded, n_frequencies), and the matrices, of shape
        (n_embedded, 2 * n_frequencies, n_units), of each `layers.PeriodicEmbedding` in `layers`.
        Only available with such a layer.
    embeddings_ : list with an array of shape (n_levels, n_units)
        The embedding vectors of the `layers.CategoricalEmbedding` in `layers`, with a row for each
        level of the first column, then of the second, and so on. Only available with such a layer.
    loss_ : float, or array of shape (n_estimators,)
        The mean loss over the batches of the last epoch, penalty included. With ``average``, it is
        the loss of the weights that are not averaged.
    best_loss_ : float or None, or array of shape (n_estimators,)
        The lowest loss of the last call of `fit`, or of all calls of `partial_fit`; None with
        ``early_stopping``.
    loss_curve_ : list of float, or one such list for each member
        The training loss of every epoch so far.
    validation_loss_curve_ : list of float, one such list for each member, or None
        The loss of the held-out rows, or of ``X_val``, after every epoch with validation data,
        without the penalty; None without validation data.
    validation_scores_ : list of float, one such list for each member, or None
        The score of the validation data after each epoch with validation data; None without
        ``early_stopping``.
    best_validation_score_ : float or None, or array of shape (n_estimators,)
        The validation score of the weights that are kept; NaN if `fit` scored no epoch, None
        without ``early_stopping``.
    n_iter_ : int, or array of shape (n_estimators,)
        The number of epochs or iterations in the last call.
    best_iter_ : int, or array of shape (n_estimators,)
        The epoch whose weights are kept, counted in the last call: the best epoch with
        ``early_stopping``, else ``n_iter_``. For calls of `partial_fit` with ``X_val``, it is a
        position in ``validation_scores_``, counted from 1.
    converged_ : bool, or array of shape (n_estimators,)
        Whether a stopping rule ended training; False if ``max_iter``, ``time_limit``, Ctrl-C or a
        callback did. After `partial_fit`, which never stops by itself, whether the score of
        ``X_val`` no longer improves.
    t_ : int, or array of shape (n_estimators,)
        The number of training rows processed by stochastic solvers, over all epochs.
    n_layers_ : int
        The number of layers, including input and output.
    n_outputs_ : int
        The number of units in the output layer.
    n_parameters_ : int
        The number of learned parameters: weights, biases, and the gains of normalized layers. With
        several members, it is the number for one member.
    out_activation_ : str
        The output activation: "identity", "exp", "ordered" for several quantiles, or
        "mean_variance". With the losses "squared_error" and "poisson" it can be set after `fit` to
        "identity", "logistic", "softmax", "tanh", "relu" or "exp", which changes predictions.
    target_mean_, target_scale_ : array of shape (n_targets,), or None
        The mean and scale that standardize the targets in training; None without ``scale_target``.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, if all names of X's columns are strings.

    See Also
    --------
    BackpropRegressor : The local estimator; `to_local` returns one.

    References
    ----------
    Dean, J. et al. (2012). Large scale distributed deep networks. NeurIPS.

    Stich, S. U. (2019). Local SGD converges fast and communicates little. ICLR.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from distributed import Client, LocalCluster
    >>> from sklearn.datasets import load_diabetes
    >>> from skbackprop.dask import DaskBackpropRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X, y = da.from_array(X, chunks=(150, -1)), da.from_array(y, chunks=150)
    >>> model = DaskBackpropRegressor(
    ...     (16,),
    ...     scale_target=True,
    ...     sync_every=1,
    ...     batch_size=150,
    ...     learning_rate_init=0.05,
    ...     max_iter=30,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    >>> with LocalCluster(**settings, dashboard_address=":0") as cluster, Client(cluster):
    ...     score = model.fit(X, y).score(X, y)
    >>> score > 0.4
    True
    """

    _parameter_table: ClassVar[dict[str, Parameter]] = get_parameters("dask_regressor")
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = get_constraints("dask_regressor")
    _local: ClassVar[type[BaseNeuralNetwork]] = BackpropRegressor

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] | Array = (100,),
        activation: ActivationLike | Sequence[ActivationLike] = "relu",
        *,
        loss: RegressorLossName | Loss = "squared_error",
        solver: SolverName | Optimizer | LBFGS = "adam",
        alpha: float = 0.0001,
        batch_size: Literal["auto"] | int = "auto",
        learning_rate: ScheduleName | LearningRateSchedule | Callable[[float], float] = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 0.0001,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool | EarlyStopping = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-08,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        n_estimators: int = 1,
        scale_target: bool = False,
        l1_ratio: float = 0.0,
        clip_norm: float | None = None,
        layers: LayersLike | None = None,
        input_shape: int | Sequence[int] | None = None,
        dropout: float | Sequence[float] | Array = 0.0,
        normalization: NormalizationName | Normalization | None = None,
        average: AverageName | WeightAverage | None = None,
        init: Literal["auto"] | InitializerName | Initializer | CoefsAndIntercepts = "auto",
        time_limit: float | None = None,
        dtype: Literal["float32", "float64"] | None = None,
        client: Client | None = None,
        sync_every: int = 10,
    ) -> None:
        values = locals()
        inherited = get_parameters("regressor")
        super().__init__(**{name: values[name] for name in inherited})
        self.client = client
        self.sync_every = sync_every

    # ------------------------------------------------------------------ prediction

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the targets of each row, lazily for Dask input.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.
        return_std : bool, default=False
            Whether to return the standard deviation as well.

        Returns
        -------
        y : Dask array, or array, of shape (n_samples,) or (n_samples, n_outputs)
            The predictions; for Dask input a lazy array with the blocks of X.
        std : Dask array, or array, of the same shape
            The standard deviation; only with ``return_std=True``.
        """
        return self._map("predict", X, return_std)

    def input_gradient(self, X: Any) -> Any:
        """Return the gradient of the prediction for each row, lazily for Dask input.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.

        Returns
        -------
        gradient : Dask array, or array
            The output of the local estimator; for Dask input a lazy array.
        """
        return self._map("input_gradient", X)
