"""Classifier for data on the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from distributed import Client

from ..activations import ActivationLike
from ..early_stopping import EarlyStopping
from ..estimators._decorators import available_if
from ..estimators._parameter_table import Parameter, constraints_of, parameters_of
from ..estimators.base import BaseNeuralNetwork
from ..estimators.classifier import BackpropClassifier
from ..initializers import Initializer
from ..layers.embeddings import InputLayers
from ..layers.normalization import Normalization
from ..losses.classification import ClassifierLoss
from ..optimizers import LBFGS, Optimizer
from ..schedules.base import LearningRateSchedule
from ..training.class_weight import ClassWeight
from ..training.weight_init import CoefsAndIntercepts
from ..utils._typing import (
    AverageName,
    ClassifierLossName,
    InitializerName,
    NormalizationName,
    ScheduleName,
    SolverName,
)
from ..utils.arrays import Array
from ..weight_averaging import WeightAverage
from ._base import DaskEstimatorMixin


class DaskBackpropClassifier(DaskEstimatorMixin, BackpropClassifier):
    """Classifier trained on the workers of a Dask cluster, where the rows stay.

    The parameters and attributes are those of `BackpropClassifier`, and so is everything that the
    network learns, but the workers compute the gradients. ``X`` and ``y`` are Dask arrays or
    frames. Each block is trained on by the worker that holds it, so the rows are never collected in
    one place. ``solver`` is any optimizer, but not L-BFGS. Prediction is lazy, block by block.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        The number of units in each hidden layer, each at least 1. ``()`` stands for no hidden
        layer: the network is then a logistic regression.
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
        - "gelu_tanh": the same to three digits, by tanh in place of erf, and faster.
        - "silu": f(z) = z / (1 + exp(-z)).
        - "mish": f(z) = z tanh(log(1 + exp(z))).
        - "softplus": f(z) = log(1 + exp(z)).

        Instances of `LeakyRelu` and `Elu` have settings of their own.
    loss : str or ClassifierLoss, default="log_loss"
        What is minimised, as a mean over the rows; of several columns of labels, the sum over the
        columns. t is 1 for the class of the row, else -1.

        - "log_loss": cross-entropy, ``-sum_k y_k log(p_k)``.
        - "squared_error": ``1/2 sum_k (p_k - y_k)**2`` of the probabilities.
        - "focal": ``-sum_k y_k (1 - p_k)**2 log(p_k)`` (Lin et al. 2017); `Focal` has other
          exponents.
        - "hinge": ``sum_k max(0, 1 - t_k s_k)``, one class against the rest. There are decision
          values and no probabilities: `predict_proba` is absent.
        - "squared_hinge": ``sum_k max(0, 1 - t_k s_k)**2``, likewise.
    solver : str, Optimizer or LBFGS, default="adam"
        How it is minimised: by the stochastic steps of an optimizer, or by "lbfgs". Instances, such
        as ``AdamW(weight_decay=0.1)``, have settings of their own; by name they take those below.

        - "adam": steps with adaptive moments (Kingma & Ba 2015).
        - "adamw": "adam" with decoupled weight decay (Loshchilov & Hutter 2019), which comes on top
          of ``alpha``.
        - "nadam": "adam" with Nesterov's momentum (Dozat 2016).
        - "amsgrad": "adam" with the largest second moment so far (Reddi et al. 2018).
        - "rmsprop": steps over the root of a mean of squared gradients (Tieleman & Hinton 2012).
        - "adagrad": steps over the root of the sum of squared gradients (Duchi et al. 2011).
        - "sgd": stochastic gradient descent with momentum.
        - "lbfgs": L-BFGS on all rows at once (Byrd et al. 1995); good for small data.
    alpha : float, default=0.0001
        The strength of the L2 penalty ``alpha / 2 * sum(W**2) / w``, not negative, where w is the
        weight of the rows of a batch: the decay depends on the batch size, and sample weights
        scaled to add up to one multiply it. Intercepts are free. `l1_ratio` makes a share of it an
        L1 penalty; decay that depends on neither batch nor weights is that of `AdamW`.
    batch_size : int or "auto", default="auto"
        The rows of a batch, at least 1; "auto" means ``min(200, n_samples)``. Not used by "lbfgs".
    learning_rate : str, LearningRateSchedule or callable, default="constant"
        The learning rate of each epoch. The first three names act with ``solver="sgd"`` alone; the
        others, instances and callables act with every stochastic solver. The progress p is the
        epochs done over ``max_iter``: those of this `fit`, or of all calls of `partial_fit` since.

        - "constant": ``learning_rate_init``.
        - "invscaling": ``learning_rate_init / (1 + t)**power_t`` after t rows.
        - "adaptive": ``learning_rate_init``, divided by 5 whenever the training loss (the
          validation score under ``early_stopping``) has not improved by ``tol`` for more than
          ``n_iter_no_change`` epochs. Training ends when it stalls at 1e-6 or less.
        - "cosine": ``learning_rate_init * (1 + cos(pi * p)) / 2`` (Loshchilov & Hutter 2017).
        - "one_cycle": up to ``learning_rate_init`` for 30 % of training, then down to almost
          nothing (Smith & Topin 2018).
        - "step": ``learning_rate_init``, a tenth from p = 0.5 on, a hundredth from p = 0.75 on.
        - "exponential": ``learning_rate_init * 0.01**p``.
        - "plateau": ``learning_rate_init``, divided by 10 whenever loss or score has not improved
          by ``tol`` for more than 5 epochs.
        - a callable: ``learning_rate_init`` times what it returns for p.

        The instances have settings of their own: `ConstantRate`, `InverseScaling`, `Adaptive`,
        `CosineDecay`, `OneCycle`, `StepDecay`, `ExponentialDecay`, `ReduceOnPlateau`, and
        `LinearWarmup` before any of them.
    learning_rate_init : float, default=0.001
        The learning rate that schedules start from or rise to, positive. `find_learning_rate`
        suggests one.
    power_t : float, default=0.5
        The exponent of "invscaling", not negative.
    max_iter : int, default=200
        The most epochs, or iterations of "lbfgs", at least 1.
    shuffle : bool, default=True
        Whether the rows are shuffled before each epoch.
    random_state : int, RandomState instance or None, default=None
        What draws the initial weights, the rows held out and the order of the rows. An int makes
        results repeat; None draws from NumPy's global stream, as `numpy.random.seed` has set it.
    tol : float, default=0.0001
        The improvement of loss or score that counts, not negative; for "lbfgs" the largest
        component of the gradient that counts as zero.
    verbose : bool or int, default=False
        Whether to print the loss of every epoch; any true value does, as in scikit-learn.
    warm_start : bool, default=False
        Whether `fit` goes on from what has been learned: weights, moments, random stream, order and
        schedule; stopping rules start afresh.
    momentum : float, default=0.9
        The momentum of "sgd", in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether "sgd" uses Nesterov's momentum.
    early_stopping : bool or EarlyStopping, default=False
        Whether to hold rows out, to stop when their score (the accuracy) has not improved by
        ``tol`` for more than ``n_iter_no_change`` epochs, and to keep the weights of the best
        epoch. An instance of `EarlyStopping` does the same by another score, and has these settings
        of its own. If `fit` is given ``X_val``, no rows are held out, and it goes by those.
        `partial_fit` keeps the weights of the best of its calls that are given ``X_val``.
    validation_fraction : float or int, default=0.1
        The share of the rows held out, in [0, 1), of which at least two are; or their number, an
        int of at least 2.
    beta_1 : float, default=0.9
        The decay of the first moment of "adam", "adamw", "nadam" and "amsgrad", in [0, 1).
    beta_2 : float, default=0.999
        The decay of their second moment, in [0, 1).
    epsilon : float, default=1e-08
        What keeps the denominator of their steps, and those of "rmsprop" and "adagrad", from zero,
        positive.
    n_iter_no_change : int or np.inf, default=10
        How many epochs may pass without improvement, at least 1. With ``np.inf`` training takes
        exactly ``max_iter`` epochs, and no warning says that it has not converged. For "lbfgs" it
        is ten times as many iterations.
    max_fun : int, default=15000
        The most evaluations of the loss by "lbfgs", at least 1. `LBFGS` has more settings.
    n_estimators : int, default=1
        The number of networks, at least 1. Several are an ensemble (Lakshminarayanan et al. 2017):
        each has its own seed, and so its own initial weights, order and rows held out; they train
        as one stack, and their predictions (a classifier's probabilities) are averaged. The first
        is the network of ``n_estimators=1``.
    class_weight : dict, "balanced", list of these and None, or None, default=None
        The weight of each class, for imbalanced data: the weights of rows are multiplied by those
        of their classes, in training, in ``loss_curve_`` and in the scores of ``early_stopping``.
        None stands for 1 each. With "balanced" a class c that n_c of n rows have weighs ``n /
        (n_classes * n_c)``; rows count by their `sample_weight`, as in scikit-learn's
        `LogisticRegression`. In a dict, such as ``{"sick": 10}``, classes without an entry weigh 1.
        For several columns of labels a list has a dict, "balanced" or None for each column, and
        their weights are multiplied, as in scikit-learn's trees; a label of a 0/1 matrix has the
        classes 0 and 1. "balanced" needs all rows, so it is not for `partial_fit`.
    label_smoothing : float, default=0.0
        The share e of each target that is spread evenly over all classes, in [0, 1): the targets
        are ``(1 - e) y + e / K`` for K classes, and ``(1 - e) y + e / 2`` for two classes and for
        each label of a 0/1 matrix (Szegedy et al. 2016, section 7). Losses are those of the
        smoothed targets, scores those of the true ones. Not for the hinge losses.
    l1_ratio : float, default=0.0
        The share of the L1 penalty, in [0, 1], as in scikit-learn's `ElasticNet`: the penalty is
        ``alpha * (l1_ratio * sum(|W|) + (1 - l1_ratio) / 2 * sum(W**2)) / w``. "lbfgs" finds
        weights that are exactly zero, stochastic steps end close to it.
    clip_norm : float or None, default=None
        The largest norm that the gradient of a step may have, penalty included, positive; a longer
        one is scaled down to it (Pascanu et al. 2013, algorithm 1). None leaves it as it is. Not
        used by "lbfgs".
    input_layers : {"scale", "periodic"}, FeatureLayer, list of these or None, default=None
        What becomes of each input before the first dense layer, in this order; None for nothing. An
        instance has settings of its own, as `PeriodicEmbedding`. `CategoricalEmbedding`, which is
        told the levels of each category, has no name. What is learned here is free of `alpha`,
        `l1_ratio` and an optimizer's decay. X may not be sparse.

        - "scale": a factor for each input, which is learned.
        - "periodic": waves of each input, with frequencies that are learned, mapped to a few
          outputs; the inputs themselves stand behind them (Gorishniy, Rubachev & Babenko 2022).
    dropout : float or sequence of float, default=0.0
        The share of units that each training step leaves out at random, in [0, 1): one rate for all
        hidden layers, or a sequence with one for the input and one for each hidden layer. The
        others are scaled up, so that predictions need no correction (Srivastava et al. 2014). The
        losses of training are those of the thinned networks. Masks have a random stream of their
        own: all other draws are as without dropout. A warm start may change the rates. Not for
        "lbfgs", which needs the same objective in every call.
    normalization : {"batch", "layer"}, Normalization or None, default=None
        What the input of each hidden layer's activation is normalised over; gains and intercepts
        come after it. An instance has settings of its own, as `BatchNormalization`.

        - "batch": the rows of a batch, each by its weight, with running means and variances for
          predictions (Ioffe & Szegedy 2015). Not for "lbfgs", which has no batches.
        - "layer": the units of the layer, for each row alone (Ba et al. 2016).
    average : {"polyak", "exponential"}, WeightAverage or None, default=None
        Which averages over the steps the weights are that are kept, and scored under
        ``early_stopping``. Training goes on from the weights themselves. Not used by "lbfgs". An
        instance has settings of its own, as `PolyakAverage` and `ExponentialMovingAverage`.

        - None: none; the weights of the last step are kept.
        - "polyak": the mean of all steps, or of those from some number of rows on, as in
          scikit-learn's `SGDClassifier` (Polyak & Juditsky 1992).
        - "exponential": an exponential average, of a decay of 0.99 (Kingma & Ba 2015, section 7.2).
    init : str, Initializer or pair (coefs, intercepts), default="auto"
        The initial weights. "auto" suits the activation. For those of scikit-learn it draws as
        scikit-learn does: weights and intercepts uniformly within ``sqrt(c / (fan_in + fan_out))``
        with c = 2 for "logistic" and 6 for "identity", "tanh" and "relu". For the others weights
        have the variance at which a layer passes on the second moment of its input (He et al.
        2015), and intercepts are zero. Each hidden layer follows its own activation, the output
        layer that of the last hidden layer. "glorot_uniform", "glorot_normal", "he_uniform",
        "he_normal", "lecun_uniform" and "lecun_normal" are the schemes of those names, with
        intercepts of zero. A pair holds an array for each layer, of shape (fan_in, fan_out) and
        (fan_out,); with the members as a first axis, each member has its own.
    time_limit : float or None, default=None
        The most seconds that `fit` trains for, positive; None for any. It is looked at before each
        batch. Then training ends with the last complete epoch, or with the best one under
        ``early_stopping``, and a ConvergenceWarning says so. `partial_fit` takes no notice.
    dtype : {"float32", "float64"} or None, default=None
        What the network computes in. None follows X: float32 for float32, else float64. float32 is
        about twice as fast for large networks.
    client : distributed.Client, default=None
        The client of the cluster. None uses the current client: the last one created in this
        process.
    sync_every : int, default=10
        The number of steps between two synchronizations of the workers, at least 1. With 1 each
        step is synchronous: the workers share a batch of ``batch_size`` rows, and the step uses the
        sum of their gradients (Dean et al. 2012). With more, training is local SGD (Stich 2019):
        each worker makes `sync_every` steps on batches of its own rows, of about ``batch_size``
        rows each, and then the weights and the state of the optimizer are averaged over the
        workers. The workers also synchronize at the end of each epoch. In measurements the default
        of 10 trains on four to six times as many rows per second as 1.

    Attributes
    ----------
    classes_ : array of shape (n_classes,), or list of such arrays
        The labels; of several columns of labels, those of each.
    coefs_ : list of arrays of shape (fan_in, fan_out)
        The weights of each layer; of several members (n_estimators, fan_in, fan_out). Arrays
        assigned to it, whole or by item, are what prediction and further training use. With
        ``average`` they are the averages.
    intercepts_ : list of arrays of shape (fan_out,)
        The intercepts of each layer, likewise.
    gains_ : list of arrays of shape (units,), or None
        What each hidden unit's normalised input is multiplied by, likewise; None without
        `normalization`.
    running_means_, running_variances_ : list of arrays of shape (units,), or None
        The running statistics of each hidden unit's input, with which predictions normalise,
        likewise; None unless over batches. Under ``early_stopping`` they are, like the weights,
        those of the best epoch, and with `average` averages.
    scales_ : list of arrays of shape (n_inputs,)
        The factors of each `layers.Scale` among the `input_layers`, likewise; absent where there is
        none.
    frequencies_, maps_ : list of arrays
        The frequencies, of shape (n_embedded, n_frequencies), and the matrices, of shape
        (n_embedded, 2 * n_frequencies, n_units), of each `layers.PeriodicEmbedding` among the
        `input_layers`, likewise; absent where there is none.
    embeddings_ : list with an array of shape (n_levels, n_units)
        The vectors of the `layers.CategoricalEmbedding` among the `input_layers`, a row for each
        level, those of one column below those of another; likewise; absent where there is none.
    temperature_ : float
        What the scores of each member are divided by, so that probabilities suit the rows held out:
        with ``early_stopping=EarlyStopping(calibrate=True)``; else 1.0. The last of ``coefs_`` and
        ``intercepts_`` are divided already.
    loss_ : float, or array of shape (n_estimators,)
        The loss of the last epoch, penalty included, as a mean over its batches while they were
        visited; with ``average`` it is that of the weights themselves.
    best_loss_ : float or None, or array of shape (n_estimators,)
        The lowest loss of the last call of `fit` (over calls of `partial_fit`: of all of them);
        None under ``early_stopping``.
    loss_curve_ : list of float, or one such list for each member
        The loss of every epoch so far.
    validation_loss_curve_ : list of float, one such list for each member, or None
        The loss of the rows held out, or of ``X_val``, after every epoch so far that had such rows,
        without the penalty; None where there are neither.
    validation_scores_ : list of float, one such list for each member, or None
        The score of the same rows, after the same epochs; None without ``early_stopping``.
    best_validation_score_ : float or None, or array of shape (n_estimators,)
        The score of the weights that are kept, NaN where no epoch of `fit` was scored; None without
        ``early_stopping``.
    n_iter_ : int, or array of shape (n_estimators,)
        The epochs or iterations of the last call.
    best_iter_ : int, or array of shape (n_estimators,)
        The epoch of the last call whose weights are kept: the best under ``early_stopping``, else
        ``n_iter_``. Over calls of `partial_fit` with ``X_val`` the best is counted in
        ``validation_scores_``, from 1.
    converged_ : bool, or array of shape (n_estimators,)
        Whether the stopping rule has ended training; False if ``max_iter``, ``time_limit``, Ctrl-C
        or a callback has. After `partial_fit`, which goes on all the same, whether the score of
        ``X_val`` has ceased to rise.
    t_ : int, or array of shape (n_estimators,)
        The number of rows seen by stochastic solvers, counted anew in each epoch.
    n_layers_ : int
        The number of layers, input and output included.
    n_outputs_ : int
        The number of units in the output layer.
    n_parameters_ : int
        The number of learned numbers: weights and biases, and gains where layers are normalised. It
        is that of one network; each of several members has as many.
    out_activation_ : str or list of str
        The function that turns scores into predictions: "softmax", "logistic" or, where there are
        no probabilities, "identity"; of several columns of labels, that of each. With the loss
        "log_loss" it can be set after `fit` to "identity", "logistic", "softmax", "tanh", "relu" or
        "exp", and predictions go by it.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, where X had names that are all strings.

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

    _rows: ClassVar[dict[str, Parameter]] = parameters_of("dask_classifier")
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = constraints_of("dask_classifier")
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
        class_weight: ClassWeight | list[ClassWeight | None] | None = None,
        label_smoothing: float = 0.0,
        l1_ratio: float = 0.0,
        clip_norm: float | None = None,
        input_layers: InputLayers | None = None,
        dropout: float | Sequence[float] | Array = 0.0,
        normalization: NormalizationName | Normalization | None = None,
        average: AverageName | WeightAverage | None = None,
        init: Literal["auto"] | InitializerName | Initializer | CoefsAndIntercepts = "auto",
        time_limit: float | None = None,
        dtype: Literal["float32", "float64"] | None = None,
        client: Client | None = None,
        sync_every: int = 10,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            loss=loss,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            n_estimators=n_estimators,
            class_weight=class_weight,
            label_smoothing=label_smoothing,
            l1_ratio=l1_ratio,
            clip_norm=clip_norm,
            input_layers=input_layers,
            dropout=dropout,
            normalization=normalization,
            average=average,
            init=init,
            time_limit=time_limit,
            dtype=dtype,
        )
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

    @available_if(BackpropClassifier._check_probabilities)
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

    @available_if(BackpropClassifier._check_probabilities)
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
