"""Neural network regressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, cast, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import assert_all_finite, check_is_fitted

from ..losses.regression import Poisson, SquaredError
from ..training.checks import check_no_missing, replace_missing_targets, weigh_targets
from ..training.config import Config
from ..training.targets import NumberTargets
from ..utils.arrays import Array, MatrixLike, as_dense
from ._estimator_mixin import available_if
from ._parameters import RegressorParameters
from ._supervised import BaseSupervisedNetwork
from .base import check_stochastic


class BackpropRegressor(RegressorMixin, RegressorParameters, BaseSupervisedNetwork):
    """Neural network regressor, trained by backpropagation.

    A drop-in replacement for scikit-learn's `MLPRegressor`, with the same parameters, attributes
    and results. The raw prediction for a row x is ``s = f(... f(x W_0 + b_0) ...) W_L + b_L``.
    The prediction is s, or for some losses a function of s.

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
        - "poisson": half the Poisson deviance, ``m - y s + y log(y) - y``, for y >= 0. For counts
          with an exposure or offset, fit ``y / exposure`` with ``sample_weight=exposure``.
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
    l1_ratio : float, default=0.0
        The share of the L1 penalty, in [0, 1], as in scikit-learn's `ElasticNet`: the penalty is
        ``alpha * (l1_ratio * sum(|W|) + (1 - l1_ratio) / 2 * sum(W**2)) / w``, with w as in
        `alpha`. Weights of irrelevant features come close to zero. "lbfgs" needs ``l1_ratio=0``.
    clip_norm : float or None, default=None
        The maximum norm of the gradient in each step, penalty included, positive. A longer gradient
        is scaled down to it (Pascanu et al. 2013, algorithm 1). None disables clipping. Not used by
        "lbfgs".
    layers : {"scale", "periodic"}, Layer, list of these or None, default=None
        Layers between the input and the hidden dense layers, in this order; None for none. Their
        output is flattened. Objects of `skbackprop.layers`, such as ``Conv2D(16, 3)`` or
        ``GRU(64)``, have settings and initial weights of their own. Layers for data augmentation,
        such as `RandomTranslation2D`, act in training only. `init`, `normalization` and `dropout`
        apply to the dense layers that follow, except that the first rate of a `dropout` sequence
        applies to X. The penalty acts on kernels and dense weights. X must be dense.

        - "scale": a learned factor for each input.
        - "periodic": sines and cosines of each input with learned frequencies, mapped to a few
          outputs, and the inputs themselves (Gorishniy, Rubachev & Babenko 2022).
    input_shape : tuple of int or None, default=None
        The shape of one row of X for `layers`: ``(height, width)`` or ``(height, width, channels)``
        for images, ``(steps, channels)`` for sequences. X of shape (n, d) is reshaped to it in C
        order. None uses the shape of the rows of X.
    n_frozen_layers : int, default=0
        The number of hidden layers, from the first, that are frozen: training changes neither their
        weights nor their normalization. To freeze objects of `layers`, set their
        ``trainable=False``. A warm start may change both, and then continues from the weights that
        predict.
    dropout : float or sequence of float, default=0.0
        The share of units that each training step drops at random, in [0, 1): one rate for all
        hidden layers, or a sequence with a rate for the input and one for each hidden layer. The
        other units are scaled up, so predictions need no correction (Srivastava et al. 2014).
        Training losses include the effect of dropout. A warm start may change the rates. Not
        available for "lbfgs".
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
        The maximum time of `fit` in seconds, positive; None for no limit. It is checked before each
        batch but the first one. Once it is exceeded, `fit` keeps the weights of the last complete
        epoch, or with ``early_stopping`` of the best epoch, and issues a ConvergenceWarning. If no
        epoch is complete, `fit` keeps the current weights, and ``n_iter_`` is 0; L-BFGS completes
        an iteration. `partial_fit` has no time limit.
    dtype : {"float32", "float64"} or None, default=None
        The floating-point type of the computations. None uses float32 for float32 X, else float64.
        float32 is about twice as fast for large networks.
    normalization : {"batch", "layer"}, Normalization or None, default=None
        The normalization of the input of each hidden layer's activation, followed by learned gains
        and intercepts. Instances, such as `BatchNormalization`, have settings of their own.

        - "batch": batch normalization by weighted statistics of the batch, with running statistics
          for predictions (Ioffe & Szegedy 2015). Not available for "lbfgs".
        - "layer": layer normalization, over the units of each row (Ba et al. 2016).
    n_estimators : int, default=1
        The number of networks, at least 1. Several networks form a deep ensemble (Lakshminarayanan
        et al. 2017): each member has its own seed, and so its own initial weights, row order and
        validation rows. The members are trained together, and their predictions (probabilities, for
        a classifier) are averaged. The first member equals the network of ``n_estimators=1``.
    n_jobs : int or None, default=None
        The number of processes in which `fit` trains the members, each some of them, with the same
        results; -1 for one on each core. None means 1, or what a ``joblib.parallel_config`` says,
        whose backend is used. Callbacks and ``verbose`` watch each epoch, so with them training
        stays in this process, as it does in `partial_fit`.
    scale_target : bool, default=False
        Whether to train on targets scaled to mean zero and standard deviation one. Predictions are
        in the units of y. Mean and scale are learned in the first call of `fit` or `partial_fit`
        and stay the same in further training. For losses of non-negative targets ("poisson",
        "gamma", "tweedie"), y is divided by its mean instead. Reported losses, ``tol`` and the
        parameters of a loss refer to the scaled targets.

    Attributes
    ----------
    coefs_ : list of arrays of shape (fan_in, fan_out)
        The weights of each layer, or (n_estimators, fan_in, fan_out) with several members. They can
        be assigned, as a whole or by item, and changed in place: prediction and further training
        use the new values. With ``average`` or calibration, they are the averaged or calibrated
        weights, which can be assigned, but not changed in place.
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
    estimators_ : list of estimators
        The members as fitted estimators of one network each, created on access. They share the
        weights of the ensemble. Only available with several members.
    oof_prediction_ : array of the shape of y
        Out-of-fold `predict` of each training row, by the member that held it out. Only available
        with several members and ``early_stopping=EarlyStopping(validation_fraction="folds")``.
    oof_score_ : float
        The `score` of ``oof_prediction_``, with the row weights of training.
    oof_member_ : array of int of shape (n_samples,)
        The index of the member that held out each training row.
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
        "mean_variance". It follows from the loss, and cannot be set.
    target_mean_, target_scale_ : array of shape (n_targets,), or None
        The mean and scale that standardize the targets in training; None without ``scale_target``.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, if all names of X's columns are strings.

    See Also
    --------
    BackpropClassifier : The same network for classification.
    sklearn.neural_network.MLPRegressor : The network of scikit-learn with the same interface.

    Notes
    -----
    An int ``random_state`` makes training exactly reproducible, with the same number of BLAS
    threads. If `fit` fails, the estimator remains unchanged. Ctrl-C stops training at the last
    complete epoch and leaves a fitted estimator.

    Inputs should have a mean near zero and a standard deviation near one: put a
    `StandardScaler` before the network, and set ``scale_target=True`` if y has another scale,
    instead of using a `TransformedTargetRegressor`. With several targets (multioutput), y has a
    column for each.

    References
    ----------
    Ba, J. L., Kiros, J. R. & Hinton, G. E. (2016). Layer normalization. arXiv:1607.06450.

    Byrd, R. H., Lu, P., Nocedal, J. & Zhu, C. (1995). A limited memory algorithm for bound
    constrained optimization. SIAM Journal on Scientific Computing 16(5), 1190-1208.

    Dozat, T. (2016). Incorporating Nesterov momentum into Adam. ICLR workshop, algorithm 2.

    Duchi, J., Hazan, E. & Singer, Y. (2011). Adaptive subgradient methods for online learning
    and stochastic optimization. JMLR 12, 2121-2159.

    Glorot, X. & Bengio, Y. (2010). Understanding the difficulty of training deep feedforward
    neural networks. AISTATS, section 4.2.1.

    He, K., Zhang, X., Ren, S. & Sun, J. (2015). Delving deep into rectifiers: surpassing
    human-level performance on ImageNet classification. ICCV, section 2.2.

    Huber, P. J. (1964). Robust estimation of a location parameter. Annals of Mathematical
    Statistics 35(1), 73-101.

    Ioffe, S. & Szegedy, C. (2015). Batch normalization: accelerating deep network training by
    reducing internal covariate shift. ICML, algorithm 1.

    Jørgensen, B. (1987). Exponential dispersion models. Journal of the Royal Statistical
    Society B 49(2), 127-162.

    Kingma, D. P. & Ba, J. (2015). Adam: a method for stochastic optimization. ICLR,
    algorithm 1.

    Koenker, R. & Bassett, G. (1978). Regression quantiles. Econometrica 46(1), 33-50.

    Lakshminarayanan, B., Pritzel, A. & Blundell, C. (2017). Simple and scalable predictive
    uncertainty estimation using deep ensembles. NeurIPS, section 2.4.

    Nix, D. A. & Weigend, A. S. (1994). Estimating the mean and variance of the target
    probability distribution. IEEE International Conference on Neural Networks 1, 55-60.

    Loshchilov, I. & Hutter, F. (2019). Decoupled weight decay regularization. ICLR, algorithm 2.

    Pascanu, R., Mikolov, T. & Bengio, Y. (2013). On the difficulty of training recurrent neural
    networks. ICML, algorithm 1.

    Loshchilov, I. & Hutter, F. (2017). SGDR: stochastic gradient descent with warm restarts.
    ICLR, equation 5.

    Polyak, B. T. & Juditsky, A. B. (1992). Acceleration of stochastic approximation by
    averaging. SIAM Journal on Control and Optimization 30(4), 838-855.

    Reddi, S. J., Kale, S. & Kumar, S. (2018). On the convergence of Adam and beyond. ICLR,
    algorithm 2.

    Rumelhart, D. E., Hinton, G. E. & Williams, R. J. (1986). Learning representations by
    back-propagating errors. Nature 323, 533-536.

    Saleh, R. A. & Saleh, A. K. (2022). Statistical properties of the log-cosh loss function
    used in machine learning. arXiv:2208.04564.

    Smith, L. N. & Topin, N. (2018). Super-convergence: very fast training of neural networks
    using large learning rates. arXiv:1708.07120.

    Srivastava, N., Hinton, G., Krizhevsky, A., Sutskever, I. & Salakhutdinov, R. (2014).
    Dropout: a simple way to prevent neural networks from overfitting. JMLR 15, 1929-1958.

    Tieleman, T. & Hinton, G. (2012). Lecture 6.5: RMSprop. Neural networks for machine learning,
    Coursera.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skbackprop import BackpropRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> network = BackpropRegressor(
    ...     (16,),
    ...     scale_target=True,
    ...     alpha=1.0,
    ...     learning_rate_init=0.01,
    ...     early_stopping=True,
    ...     random_state=0,
    ... )
    >>> model = make_pipeline(StandardScaler(), network)
    >>> model.fit(X_train, y_train).score(X_test, y_test) > 0.3
    True
    """

    target_mean_: Array | None
    target_scale_: Array | None

    # -------------------------------------------------------------------- training

    @available_if(check_stochastic)
    def partial_fit(
        self,
        X: MatrixLike,
        y: MatrixLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: MatrixLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on X and y, continuing the previous training.

        Moments, random state and schedule continue as well, so ``max_iter`` calls with the same
        data equal one `fit` of as many epochs. No rows are held out, and training never stops by
        itself: with `early_stopping`, `converged_` tells when the score of `X_val` no longer
        improves.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input, without missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets. With several outputs, NaN means "not measured".
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            The weights of the rows, or of each output, non-negative and not all zero; None for
            equal weights.
        X_val, y_val : array-like, default=None
            Validation data, whose loss is appended to `validation_loss_curve_`. With
            `early_stopping`, its score is appended to `validation_scores_`, and the weights of the
            call with the best score are kept.
        sample_weight_val : array-like, default=None
            Sample weights of the validation data; None for equal weights.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or training diverges. The estimator then
            remains unchanged.
        AttributeError
            If the solver is not stochastic.
        """
        arguments = {
            "X": X,
            "y": y,
            "sample_weight": sample_weight,
            "X_val": X_val,
            "y_val": y_val,
            "sample_weight_val": sample_weight_val,
        }
        return self._partial_fit_rows(arguments)

    def _make_targets(
        self, config: Config, y: Any, weight: Array | None, classes: Any
    ) -> NumberTargets:
        return NumberTargets.fit(config.loss, y, weight, is_scaled=config.scale_target)

    @property
    def _number_targets(self) -> NumberTargets:
        """The encoding of the targets."""
        return cast(NumberTargets, self._model.targets)

    @classmethod
    def from_weights(
        cls, coefs: Sequence[ArrayLike], intercepts: Sequence[ArrayLike], **params: Any
    ) -> Self:
        """Return a fitted regressor with given weights, such as those of another library.

        Parameters
        ----------
        coefs, intercepts : list of arrays
            The weights of each layer, of shape (n_inputs, n_units), and its biases, of shape
            (n_units,). Those of several networks have an axis of networks first.
        **params : dict
            Other parameters of the constructor, such as ``activation``. `hidden_layer_sizes` and
            `n_estimators` follow from the weights.

        Returns
        -------
        regressor : BackpropRegressor
            The fitted regressor. It predicts, and can be trained on.

        Raises
        ------
        ValueError
            If the shapes do not belong to a network.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.neural_network import MLPRegressor
        >>> from skbackprop import BackpropRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> theirs = MLPRegressor(hidden_layer_sizes=(8,), tol=10, random_state=0).fit(X, y)
        >>> ours = BackpropRegressor.from_weights(theirs.coefs_, theirs.intercepts_)
        >>> bool(abs(ours.predict(X) - theirs.predict(X)).max() < 1e-9)
        True
        """

        def make_targets(config: Config, n_outputs: int) -> NumberTargets:
            return NumberTargets(config.loss, n_outputs // config.loss.n_outputs_per_target)

        return cls._from_weights(coefs, intercepts, make_targets, params)

    # ------------------------------------------------------------------ prediction

    @overload
    def predict(self, X: MatrixLike, return_std: Literal[False] = False) -> Array: ...

    @overload
    def predict(self, X: MatrixLike, return_std: Literal[True]) -> tuple[Array, Array]: ...

    @overload
    def predict(self, X: MatrixLike, return_std: bool) -> Array | tuple[Array, Array]: ...

    def predict(self, X: MatrixLike, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Predict the targets of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.
        return_std : bool, default=False
            Whether to return a standard deviation as well. With the Gaussian loss, it is the
            learned standard deviation of the targets; with several members, that of the mixture
            of their distributions. With other losses, it is the standard deviation of the
            members' predictions, which measures their disagreement; it is zero for one member.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            The predictions, averaged over the members, in the model's dtype, or in float64 with
            ``scale_target``. With several quantiles of `Quantile`, they have a last axis of
            quantiles.
        std : array of the same shape
            The standard deviation. Only returned if ``return_std`` is True.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError
            If X is not valid input.
        """
        return self._predict_in_blocks(
            X, self._predict_mean_and_std if return_std else self._predict_mean
        )

    @property
    def oof_prediction_(self) -> Array:
        """The out-of-fold prediction of each training row."""
        return self._predict_mean(self._get_out_of_fold().predictions[None].copy())

    def _predict_mean(self, raw_predictions: Array) -> Array:
        """Return the mean of the members' predictions."""
        means = self._predict_means(raw_predictions)
        if len(means) == 1:
            return means[0]
        shares, scale = _divide_by_largest(means)
        return np.asarray(shares.mean(axis=0) * scale, means.dtype)

    def _predict_mean_and_std(self, raw_predictions: Array) -> tuple[Array, Array]:
        """Return the mean and the standard deviation of the mixture of the members.

        The variance is the mean of the members' variances plus the variance of their means.
        """
        means = self._predict_means(raw_predictions)
        shares, scale = _divide_by_largest(means)
        std = shares.std(axis=0) * scale
        loss = self._number_targets.loss
        stds = [loss.predict_std(member) for member in raw_predictions]
        if stds[0] is not None:
            shares, scale = _divide_by_largest(self._to_units_of_y(stds, from_zero=True))
            std = np.hypot(std, np.sqrt(np.square(shares).mean(axis=0)) * scale)
        limit = np.finfo(means.dtype).max
        return self._predict_mean(raw_predictions), np.asarray(np.minimum(std, limit), means.dtype)

    def _predict_means(self, raw_predictions: Array) -> Array:
        """Return the prediction of each member in the units of y."""
        loss = self._number_targets.loss
        return self._to_units_of_y([loss.predict(member) for member in raw_predictions])

    def _to_units_of_y(self, values: Any, *, from_zero: bool = False) -> Array:
        """Return the members' predictions, or deviations `from_zero`, in the units of y."""
        result = self._number_targets.inverse_transform(np.concatenate(values), from_zero=from_zero)
        return result.reshape(len(values), -1, *result.shape[1:])

    def input_gradient(self, X: MatrixLike) -> Array:
        """Return the gradient of the prediction by the features of each row (saliency).

        The gradient d prediction / d x is the change of the prediction for each unit of change in
        a feature. It is in the units of y, also with ``scale_target``, and is computed by
        backpropagation to the input, in blocks of rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        gradient : array of shape (n_samples, n_features) or (n_samples, n_outputs, n_features)
            The shape of `predict` with an additional last axis of features, or the axes of a row
            for X of more dimensions. In the model's dtype; dense for sparse X as well. With several
            members, the gradient of their mean prediction.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError
            If X is not valid input.
        NotImplementedError
            If a custom loss has a link without ``backward``.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from skbackprop import BackpropRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = BackpropRegressor((), scale_target=True, solver="lbfgs", random_state=0)
        >>> gradient = model.fit(X, y).input_gradient(X)
        >>> gradient.shape
        (442, 10)
        >>> bool(abs(gradient - model.coefs_[0][:, 0] * model.target_scale_).max() < 1e-9)
        True
        """
        check_is_fitted(self)
        loss = self._number_targets.loss
        outputs = range(self._model.network.n_units[-1])[loss.prediction_columns]
        gradients = self._input_gradients(
            X, lambda raw, i: self._prediction_output_gradient(raw, outputs[i]), len(outputs)
        )
        gradients = np.asarray(self._number_targets.gradients_in_units_of_y(gradients))
        return gradients.reshape(*gradients.shape[:-1], *self._get_row_shape(X))

    def score(self, X: MatrixLike, y: MatrixLike, sample_weight: ArrayLike | None = None) -> float:
        """Return R2 or D2 of the predictions.

        It is R2 for "squared_error" and "poisson", the losses of scikit-learn's regressor. For
        other losses it is D2, the share of the loss of the best constant prediction that the
        network removes: at most 1, 0 for the constant, and negative for worse predictions. With
        several targets it is averaged over those with measured rows. For the Gaussian loss it is
        ``1 - exp(2 (loss - loss of the constant))``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets. With several outputs, NaN means "not measured".
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            The weights of the rows, or of each output, non-negative and not all zero; None for
            equal weights.

        Returns
        -------
        score : float
            R2 or D2.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError
            If X or y is invalid.
        """
        return self._score_predictions(*self._predict_for_score(X, y, sample_weight))

    def _predict_for_score(self, X: Any, y: Any, weight: Any) -> tuple[Any, Array, Array | None]:
        """Return the targets, predictions and weights that the score is computed from.

        D2 needs encoded targets and raw predictions.
        """
        check_is_fitted(self)
        if isinstance(self._number_targets.loss, (SquaredError, Poisson)):
            y_pred = self.predict(X)
            y, is_missing = replace_missing_targets(y)
            y = np.asarray(check_no_missing(as_dense(y), "values"))
            assert_all_finite(y, input_name="y")
            y, weight = weigh_targets(y, is_missing, weight, y_pred)
            return y, y_pred, weight
        y_pred = self._predict_in_blocks(X, self._average_raw)
        _, y, weight = self._validate_rows(X, y, weight, reset=False)
        return self._number_targets.encode(y), y_pred, weight

    def _score_predictions(self, y: Any, y_pred: Array, weight: Array | None) -> float:
        """Return the score from the results of `_predict_for_score`."""
        loss = self._number_targets.loss
        if isinstance(loss, (SquaredError, Poisson)):
            if weight is None or weight.ndim == 1 or y.shape != y_pred.shape:
                return float(r2_score(y, y_pred, sample_weight=weight))
            loss = SquaredError()
        with np.errstate(all="ignore"):
            return loss.score(y_pred, y, weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = self._has_positive_targets()
        return tags


def _divide_by_largest(values: Any) -> tuple[Array, Array]:
    """Return values divided by the largest along the first axis, and that largest value.

    Both are in double precision. Squares of the divided values do not overflow.
    """
    values = np.asarray(values, dtype=np.float64)
    maxima = np.abs(values).max(axis=0)
    scale = np.where(maxima > 0, maxima, 1.0)
    return values / scale, scale
