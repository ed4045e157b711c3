"""Autoencoder: dimensionality reduction and outlier detection by a neural network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from numbers import Integral
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array, check_random_state, check_scalar, gen_batches
from sklearn.utils.validation import check_is_fitted

from ..losses.base import Loss
from ..losses.links import Link
from ..nn.network import Network
from ..nn.parameters import Parameters
from ..nn.prediction import Predictor, predict_raw
from ..nn.rows import Rows
from ..nn.stack import loss_normalizer
from ..training.checks import check_targets, validate_weight
from ..training.config import AutoencoderConfig, Config
from ..training.model import Model
from ..training.problem import Problem
from ..training.targets import Targets, weighted_mean
from ..utils.arrays import Array, IndexArray, MatrixLike, as_dense
from ._estimator_mixin import available_if, with_argument_suggestions, with_callbacks
from ._fitted import check_finite_output
from ._parameters import AUTOENCODER_LOSSES, AutoencoderParameters
from ._validation import validate_features, validate_input
from ._variational_losses import log_likelihoods, n_encoder_layers, variational_losses
from .base import BaseNeuralNetwork, check_stochastic

# Size of the blocks in which errors and variances are computed.
_BLOCK_SIZE = 1 << 17

# Tolerance for rounding errors in shares and scores of the rows.
_ROUNDING = 1e-9


# Codes drawn for each row to score it, unless the user says otherwise.
N_DRAWS = 20


def check_variational(estimator: Any) -> bool:
    """Check that codes have a distribution, for `available_if`."""
    model = vars(estimator).get("_model")
    if not (estimator.variational if model is None else model.network.is_variational):
        raise AttributeError(
            "sample is only available for variational autoencoders. Set variational=True and fit."
        )
    return True


class BackpropAutoencoder(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    OutlierMixin,
    AutoencoderParameters,
    BaseNeuralNetwork,
):
    """Autoencoder for dimensionality reduction and outlier detection.

    The encoder maps a row x to a code c with `n_components` values, and the decoder maps the code
    to a reconstruction of the row: ``c = f(... f(x W_0 + b_0) ...) W_h + b_h`` and ``x' = f(...
    f(c W_(h+1) + b_(h+1)) ...) W_L + b_L``. Both are trained together to minimize the
    reconstruction error. Without hidden layers, the codes span the space of the principal
    components; with hidden layers, the reduction is nonlinear.

    For outlier (anomaly) detection, `predict` returns -1 for rows with a large reconstruction
    error and 1 for all others.

    With ``variational=True`` it is a variational autoencoder (Kingma & Welling 2014), which models
    the distribution of the rows: codes are normally distributed, `sample` draws new rows, and
    `score_samples` estimates log-likelihoods.

    Parameters
    ----------
    n_components : int, default=2
        The length of a code, at least 1: the number of units in the bottleneck. These units have no
        activation function, so codes are unbounded, as with `PCA`.
    hidden_layer_sizes : int or sequence of int, default=(100,)
        The number of units in each hidden layer of the encoder, each at least 1. The decoder
        mirrors them. ``()`` means no hidden layer. Other parameters that refer to hidden layers
        apply to the hidden layers of encoder and decoder, but not to the bottleneck.
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
    loss : {"squared_error", "log_loss"} or Loss, default="squared_error"
        The loss function to minimize, averaged over the rows and summed over the features. The
        reported loss, which is compared with ``tol``, is averaged over the features.

        - "squared_error": ``1/2 sum_k (x'_k - x_k)**2``.
        - "log_loss": binary cross-entropy, for features in [0, 1], best for those of 0 and 1. The
          output activation is logistic, and the reported loss is the sum over the features.

        An instance may be any loss of the regressor with one output for each target. If the loss
        restricts the range of targets, X has to be in that range.
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
        Whether to hold out validation rows, to stop when their score (R2, or the negative loss with
        ``variational``) has not improved by ``tol`` for more than ``n_iter_no_change`` epochs, and
        to keep the weights of the best epoch. An instance of `EarlyStopping` can use another score
        and has settings of its own. If `fit` gets ``X_val``, no rows are held out and ``X_val`` is
        the validation data. `partial_fit` keeps the weights of the call with the best score of
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
    layers : Layer, list of these, {"scale"} or None, default=None
        The first layers of the encoder, before its hidden dense layers; None for none. Their output
        is flattened. The decoder has their mirror images, in reverse order: a `Conv2DTranspose` for
        a `Conv2D`, an `UpSampling2D` for a pooling layer, a `Dense` for a `Dense`, and
        normalizations, `Dropout` and `Residual` as they are. Layers without a mirror image, such as
        `Embedding`, raise an error. X must be dense, without NaN.

        - "scale": a learned factor for each input, and one for each output.
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
        fan_out) and (fan_out,).
    time_limit : float or None, default=None
        The maximum time of `fit` in seconds, positive; None for no limit. It is checked before each
        batch but the first one. Once it is exceeded, `fit` keeps the weights of the last complete
        epoch, or with ``early_stopping`` of the best epoch, and issues a ConvergenceWarning. If no
        epoch is complete, `fit` keeps the current weights, and ``n_iter_`` is 0; L-BFGS completes
        an iteration. `partial_fit` has no time limit.
    dtype : {"float32", "float64"} or None, default=None
        The floating-point type of the computations. None uses float32 for float32 X, else float64.
        float32 is about twice as fast for large networks.
    variational : bool, default=False
        Whether the encoder returns a normal distribution instead of a code, from which training
        draws a code for each row (Kingma & Welling 2014). The bottleneck then has ``2 *
        n_components`` units: the means of the distribution, and the logarithms of its variances.
        Training minimizes the reconstruction error of the drawn codes, plus `beta` times the
        Kullback-Leibler divergence of the distribution from the standard normal distribution, ``1/2
        sum_j (m_j**2 + s_j**2 - 1 - log(s_j**2))`` with the means m_j and the variances s_j**2.
        `loss_curve_` includes both terms. `transform` returns the means as codes, `sample` returns
        new rows, and `score_samples` log-likelihoods. Not available for "lbfgs".
    beta : float, default=1.0
        The weight of the Kullback-Leibler divergence with ``variational=True``, positive (Higgins
        et al. 2017). With ``loss="squared_error"`` it is also the variance of the normal
        distribution of each feature about its reconstruction, so features of variance one need a
        value below 1, such as 0.1. With a large value the codes lose information about the rows. A
        warm start may change it.
    contamination : float, default=0.1
        The share of training rows that `predict` labels as outliers, in (0, 0.5]. It determines
        ``offset_`` at the end of `fit`, and has no effect on training.

    Attributes
    ----------
    coefs_ : list of arrays of shape (fan_in, fan_out)
        The weights of each layer. They can be assigned, as a whole or by item, and changed in
        place: prediction and further training use the new values. With ``average`` or calibration,
        they are the averaged or calibrated weights, which can be assigned, but not changed in
        place.
    intercepts_ : list of arrays of shape (fan_out,)
        The intercepts of each layer. They can be assigned as well.
    scales_ : list of arrays of shape (n_inputs,)
        The factors of each `layers.Scale` in `layers`. Only available with such a layer.
    loss_ : float
        The mean loss over the batches of the last epoch, penalty included. With ``average``, it is
        the loss of the weights that are not averaged.
    best_loss_ : float or None
        The lowest loss of the last call of `fit`, or of all calls of `partial_fit`; None with
        ``early_stopping``.
    loss_curve_ : list of float
        The training loss of every epoch so far.
    validation_loss_curve_ : list of float or None
        The loss of the held-out rows, or of ``X_val``, after every epoch with validation data,
        without the penalty; None without validation data.
    validation_scores_ : list of float or None
        The score of the validation data after each epoch with validation data; None without
        ``early_stopping``.
    best_validation_score_ : float or None
        The validation score of the weights that are kept; NaN if `fit` scored no epoch, None
        without ``early_stopping``.
    n_iter_ : int
        The number of epochs or iterations in the last call.
    best_iter_ : int
        The epoch whose weights are kept, counted in the last call: the best epoch with
        ``early_stopping``, else ``n_iter_``. For calls of `partial_fit` with ``X_val``, it is a
        position in ``validation_scores_``, counted from 1.
    converged_ : bool
        Whether a stopping rule ended training; False if ``max_iter``, ``time_limit``, Ctrl-C or a
        callback did. After `partial_fit`, which never stops by itself, whether the score of
        ``X_val`` no longer improves.
    t_ : int
        The number of training rows processed by stochastic solvers, over all epochs.
    n_layers_ : int
        The number of layers, including input and output.
    n_outputs_ : int
        The number of units in the output layer.
    n_parameters_ : int
        The number of learned parameters: weights and biases, and the arrays of `layers`.
    out_activation_ : str
        The output activation: "identity", unless the loss has another link.
    offset_ : float or None
        The threshold of `score_samples` below which a row is an outlier: a share of
        ``contamination`` of the training rows is below it. It can be assigned. None after
        `partial_fit`.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, if all names of X's columns are strings.

    See Also
    --------
    BackpropRegressor : The same network for other targets than its input.
    sklearn.decomposition.PCA : Linear dimensionality reduction with an exact solution.

    Notes
    -----
    An int ``random_state`` makes training exactly reproducible, with the same number of BLAS
    threads. If `fit` fails, the estimator remains unchanged. Ctrl-C stops training at the last
    complete epoch and leaves a fitted estimator.

    Inputs should have a mean near zero and a standard deviation near one: put a
    `StandardScaler` before the network. Otherwise the features with the largest scale
    dominate the squared error.

    Sparse X stays sparse: only batches and blocks of predictions are converted to dense arrays.

    Dropout of the input, as by ``dropout=[0.3, 0, ...]``, makes a denoising autoencoder (Vincent
    et al. 2008): the target is always the complete row.

    References
    ----------
    Baldi, P. & Hornik, K. (1989). Neural networks and principal component analysis: learning
    from examples without local minima. Neural Networks 2, 53-58.

    Bourlard, H. & Kamp, Y. (1988). Auto-association by multilayer perceptrons and singular
    value decomposition. Biological Cybernetics 59, 291-294.

    Burda, Y., Grosse, R. & Salakhutdinov, R. (2016). Importance weighted autoencoders. ICLR.

    Byrd, R. H., Lu, P., Nocedal, J. & Zhu, C. (1995). A limited memory algorithm for bound
    constrained optimization. SIAM Journal on Scientific Computing 16(5), 1190-1208.

    Dozat, T. (2016). Incorporating Nesterov momentum into Adam. ICLR workshop, algorithm 2.

    Higgins, I., Matthey, L., Pal, A., Burgess, C., Glorot, X., Botvinick, M., Mohamed, S. &
    Lerchner, A. (2017). beta-VAE: learning basic visual concepts with a constrained variational
    framework. ICLR.

    Hinton, G. E. & Salakhutdinov, R. R. (2006). Reducing the dimensionality of data with neural
    networks. Science 313, 504-507.

    Kingma, D. P. & Ba, J. (2015). Adam: a method for stochastic optimization. ICLR,
    algorithm 1.

    Kingma, D. P. & Welling, M. (2014). Auto-encoding variational Bayes. ICLR.

    Loshchilov, I. & Hutter, F. (2017). SGDR: stochastic gradient descent with warm restarts.
    ICLR, equation 5.

    Loshchilov, I. & Hutter, F. (2019). Decoupled weight decay regularization. ICLR, algorithm 2.

    Pascanu, R., Mikolov, T. & Bengio, Y. (2013). On the difficulty of training recurrent neural
    networks. ICML, algorithm 1.

    Polyak, B. T. & Juditsky, A. B. (1992). Acceleration of stochastic approximation by
    averaging. SIAM Journal on Control and Optimization 30(4), 838-855.

    Smith, L. N. & Topin, N. (2018). Super-convergence: very fast training of neural networks
    using large learning rates. arXiv:1708.07120.

    Srivastava, N., Hinton, G., Krizhevsky, A., Sutskever, I. & Salakhutdinov, R. (2014).
    Dropout: a simple way to prevent neural networks from overfitting. JMLR 15, 1929-1958.

    Tieleman, T. & Hinton, G. (2012). Lecture 6.5: RMSprop. Neural networks for machine learning,
    Coursera.

    Vincent, P., Larochelle, H., Bengio, Y. & Manzagol, P.-A. (2008). Extracting and composing
    robust features with denoising autoencoders. ICML, section 2.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skbackprop import BackpropAutoencoder
    >>> X = StandardScaler().fit_transform(load_iris().data)
    >>> autoencoder = BackpropAutoencoder(
    ...     2, (16,), activation="tanh", learning_rate_init=0.02, max_iter=300, random_state=0
    ... )
    >>> codes = autoencoder.fit_transform(X)
    >>> codes.shape
    (150, 2)
    >>> autoencoder.inverse_transform(codes).shape
    (150, 4)
    >>> autoencoder.score(X) > 0.95
    True
    """

    _config_class: ClassVar[type[Config]] = AutoencoderConfig
    offset_: float | None

    # -------------------------------------------------------------------- training

    @with_argument_suggestions
    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: Any = None,
        sample_weight_val: ArrayLike | None = None,
        resume_from: str | PathLike[str] | None = None,
        groups: MatrixLike | None = None,
    ) -> Self:
        """Train the network to reproduce X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input, without missing values.
        y : object, default=None
            Not used; exists for use in pipelines.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, non-negative and not all zero; None for equal weights.

        X_val : array-like or sparse matrix, default=None
            Validation data, whose loss is recorded after each epoch in `validation_loss_curve_`.
            `early_stopping` uses it in place of held-out rows of X. In a `Pipeline`, pass
            ``transform_input=["X_val"]`` to transform it as X.
        y_val : object, default=None
            Not used.
        sample_weight_val : array-like, default=None
            Sample weights of the validation data; None for equal weights.
        resume_from : str or path, default=None
            File of a `callbacks.Checkpoint` from an autoencoder with the same parameters and
            data. Training resumes from it and ends with exactly the weights of an uninterrupted
            fit. ``max_iter`` may be higher.
        groups : array-like of shape (n_samples,), default=None
            The group of each row, such as a patient or a day. `early_stopping` holds out whole
            groups. Groups have no effect if no rows are held out. With metadata routing, searches,
            pipelines and cross-validation pass groups to `fit` by default.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or if training diverges. The estimator then
            remains unchanged.
        KeyboardInterrupt
            On Ctrl-C. The last complete epoch is kept. Without a complete epoch, a fitted
            estimator remains unchanged, and an unfitted one gets its initial weights, with an
            ``n_iter_`` of 0.
        """
        arguments = {
            "X": X,
            "y": None,
            "sample_weight": sample_weight,
            "X_val": X_val,
            "y_val": None,
            "sample_weight_val": sample_weight_val,
            "groups": groups,
        }
        return self._fit_rows(arguments, resume_from)

    @available_if(check_stochastic)
    def partial_fit(
        self,
        X: MatrixLike,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: Any = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on X, continuing the previous training.

        Moments, random state and schedule continue as well, so several calls with the same data
        equal one `fit` of as many epochs. No rows are held out, and training never stops by
        itself: with `early_stopping`, `converged_` tells when the score of `X_val` no longer
        improves.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input, without missing values.
        y : object, default=None
            Not used; exists for use in pipelines.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, non-negative and not all zero; None for equal weights.
        X_val : array-like or sparse matrix, default=None
            Validation data, whose loss is appended to `validation_loss_curve_`. With
            `early_stopping`, its score is appended to `validation_scores_`, and the weights of the
            call with the best score are kept.
        y_val : object, default=None
            Not used.
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
            "y": None,
            "sample_weight": sample_weight,
            "X_val": X_val,
            "y_val": None,
            "sample_weight_val": sample_weight_val,
        }
        return self._partial_fit_rows(arguments)

    def _validate_rows(self, X: Any, y: Any, weight: Any, reset: bool) -> tuple[Any, Any, Any]:
        X = validate_features(self, X, reset)
        if self.layers is not None:
            _reject_padding(X)
        return X, X, validate_weight(weight, X)

    def _make_targets(
        self, config: Config, y: Any, weight: Array | None, classes: Any
    ) -> ReconstructionTargets:
        return ReconstructionTargets(config.loss)

    def _finish_model(self, problem: Problem, model: Model) -> Model:
        model = super()._finish_model(problem, model)
        loss = problem.targets.loss
        rows = problem.rows
        offset: float | None = None
        has_scores = loss.has_likelihood or not model.network.is_variational
        if has_scores and not model.is_incremental:
            scores = _score_rows(loss, model.network, model.parameters, rows.X, N_DRAWS)
            offset = _contamination_threshold(scores, self.contamination, rows.weight)
        return replace(model, results={**model.results, "offset_": offset})

    # ---------------------------------------------------------- encoding and decoding

    def transform(self, X: MatrixLike) -> Array:
        """Encode each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        codes : array of shape (n_samples, n_components)
            The outputs of the bottleneck, in the model's dtype. With ``variational=True``, they
            are the means of the rows' distributions.

        Raises
        ------
        NotFittedError
            If the autoencoder is not fitted.
        ValueError
            If X is not valid input.
        """
        check_is_fitted(self)
        X = self._prediction_arguments(X)[0]
        return self._apply_layers(slice(n_encoder_layers(self._model.network)), X)

    def inverse_transform(self, X: MatrixLike) -> Array:
        """Decode codes to rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            The codes.

        Returns
        -------
        rows : array of shape (n_samples, n_features)
            The reconstructed rows, in the model's dtype; dense also for sparse training data. They
            have the shape of the rows of the training data, such as (28, 28).

        Raises
        ------
        NotFittedError
            If the autoencoder is not fitted.
        ValueError
            If X is invalid or does not have `n_components` columns.
        """
        check_is_fitted(self)
        codes = check_array(X, dtype=(np.float64, np.float32))
        if codes.shape[1] != self._n_features_out:
            raise ValueError(
                f"X must have n_components={self._n_features_out} column(s), got {codes.shape[1]}. "
                "Pass codes as returned by transform."
            )
        rows = self._apply_layers(slice(n_encoder_layers(self._model.network), None), codes)
        self._model.targets.loss.link.inverse(rows, rows)
        return rows.reshape(len(rows), *self._model.row_shape)

    @available_if(check_variational)
    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> Array:
        """Return new rows: decoded codes from the standard normal distribution.

        Parameters
        ----------
        n_samples : int, default=1
            The number of rows, at least 1.
        random_state : int, RandomState instance or None, default=None
            The random number generator of the codes. Pass an int for reproducible rows.

        Returns
        -------
        rows : array of shape (n_samples, n_features), or as `inverse_transform`
            The mean of each row given its code, without the noise about it, in the model's dtype.

        Raises
        ------
        NotFittedError
            If the autoencoder is not fitted with ``variational=True``.
        AttributeError
            If `variational` is False.
        TypeError, ValueError
            If `n_samples` is not a positive integer.
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        rng = check_random_state(random_state)
        return self.inverse_transform(rng.standard_normal((n_samples, self._n_features_out)))

    def _apply_layers(self, layers: slice, values: Any) -> Array:
        """Return the output of consecutive layers."""
        network = self._model.network.part(layers)
        parameters = self._model.parameters.part(layers)
        with np.errstate(all="ignore"):
            return check_finite_output(
                predict_raw(network, parameters, values)[0], network, parameters, values
            )

    @property
    def n_outputs_(self) -> int:
        """The number of features, which are reconstructed."""
        return self.n_features_in_

    @property
    def _n_features_out(self) -> int:
        """The number of columns of the codes, for `get_feature_names_out`."""
        network = self._model.network
        return network.n_units[n_encoder_layers(network)]

    # ------------------------------------------------------------- outlier detection

    def score_samples(self, X: MatrixLike, *, n_draws: int = N_DRAWS) -> Array:
        """Return a score of each row; outliers have low scores.

        It is the negative reconstruction error, or with ``variational=True`` the log-likelihood.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.
        n_draws : int, default=20
            The number of codes drawn for each row with ``variational=True``, at least 1. With more
            codes, the result is closer to the log-likelihood, mostly from below. `fit` computes
            ``offset_`` with the default.

        Returns
        -------
        scores : float64 array of shape (n_samples,)
            Higher is more normal. It is the negative mean squared error over the features, at most
            zero.

            With ``variational=True``, it is an estimate of the log-likelihood by importance
            sampling (Burda et al. 2016, equation 8), ``log 1/K sum_k p(x | z_k) p(z_k) /
            q(z_k | x)``, with K = `n_draws` codes z_k from the encoder's distribution q. The noise
            is the same in each call and for each row. ``p(x | z)`` depends on the loss:

            - "squared_error": the normal distribution about the reconstruction with the variance
              `beta`, for which training minimizes the negative evidence lower bound.
            - "log_loss": independent Bernoulli variables. For features between 0 and 1 it is the
              negative cross-entropy, which is no density.
            - `losses.Poisson`: independent Poisson variables.

        Raises
        ------
        NotFittedError
            If the autoencoder is not fitted.
        ValueError
            If X is not valid input, or `n_draws` is less than 1, or with ``variational=True``, if
            the loss is of another kind.
        """
        check_is_fitted(self)
        check_scalar(n_draws, "n_draws", Integral, min_val=1)
        self._check_has_likelihood()
        X, network, parameters = self._prediction_arguments(X)
        scores = _score_rows(self._model.targets.loss, network, parameters, X, n_draws)
        return check_finite_output(scores, network, parameters, X)

    def decision_function(self, X: MatrixLike) -> Array:
        """Return the distance of each score from the threshold of outliers.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        decision : float64 array of shape (n_samples,)
            ``score_samples(X) - offset_``: negative for outliers.

        Raises
        ------
        NotFittedError
            If the autoencoder is not fitted, or has no `offset_`.
        ValueError
            If X is not valid input.
        """
        check_is_fitted(self)
        offset = getattr(self, "offset_", None)
        if offset is None:
            self._check_has_likelihood()
            raise NotFittedError(
                "This BackpropAutoencoder has no threshold for outliers, because only fit sets "
                "one. Call fit, or set it from known rows: autoencoder.offset_ = "
                "np.quantile(autoencoder.score_samples(X), 0.1)."
            )
        return self.score_samples(X) - offset

    def predict(self, X: MatrixLike) -> Array:
        """Predict whether each row is an outlier.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        labels : array of int of shape (n_samples,)
            -1 for outliers, which have a negative `decision_function`, and 1 for inliers. For the
            reconstruction of X, use ``inverse_transform(transform(X))``.

        Raises
        ------
        NotFittedError
            If the autoencoder is not fitted, or has no `offset_`.
        ValueError
            If X is not valid input.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def score(self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Return the share of the variance of X that the reconstruction explains (R2).

        It is one minus the sum of squared errors divided by the sum of squared deviations from the
        mean of X, over all rows and features.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.
        y : object, default=None
            Not used.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, non-negative and not all zero; None for equal weights.

        Returns
        -------
        score : float
            R2, at most one. If all rows of X are equal, it is one for an exact reconstruction,
            else zero.

        Raises
        ------
        NotFittedError
            If the autoencoder is not fitted.
        ValueError
            If X or the weights are invalid.
        """
        check_is_fitted(self)
        X, network, parameters = self._prediction_arguments(X)
        weight = validate_weight(sample_weight, X)
        errors = _squared_errors(self._model.targets.loss.link, network, parameters, X)
        check_finite_output(errors, network, parameters, X)
        return _explained_variance(errors, X, None, weight)

    def _prediction_arguments(self, X: Any) -> tuple[Any, Network, Parameters]:
        """Return validated X, the network and the parameters for prediction."""
        X = validate_input(self, X)
        if self._model.network.reads_sequences:
            _reject_padding(X)
        return X, self._model.network, self._model.parameters

    def _check_has_likelihood(self) -> None:
        """Raise an error if rows have no score: drawn codes, and a loss without a likelihood."""
        loss = self._model.targets.loss
        if self._model.network.is_variational and not loss.has_likelihood:
            raise ValueError(
                "score_samples of a variational autoencoder needs the likelihood of a row, which "
                f"loss={loss!r} does not have. Use loss='squared_error', 'log_loss' or "
                "Poisson()."
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = (
            [self.dtype] if self.dtype else ["float64", "float32"]
        )
        tags.input_tags.positive_only = self._has_positive_targets()
        return tags


def _reject_padding(X: Any) -> None:
    """Raise an error for NaN, which sequence layers would treat as padding."""
    if not issparse(X) and X.dtype.kind == "f" and np.isnan(X.sum()) and np.isnan(X).any():
        raise ValueError(
            "Input X contains NaN, but an autoencoder cannot reproduce the padding of sequences. "
            "Cut or fill all sequences to the same length."
        )


class ReconstructionTargets(Targets):
    """Targets of an autoencoder: its input.

    The validation score is computed from the squared error of each row. With drawn codes, the
    validation loss is the negative evidence lower bound.

    Parameters
    ----------
    loss : Loss
        The loss, which may restrict the range of values.
    """

    config_class = AutoencoderConfig
    named_losses = AUTOENCODER_LOSSES

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    @classmethod
    def from_dict(cls, config: Config, values: Mapping[str, Any]) -> Self:
        return cls(config.loss)

    def encode(self, y: Any, needs_all: bool = False) -> Any:
        if self.loss.n_outputs_per_target > 1:
            raise ValueError(
                f"loss={self.loss!r} has {self.loss.n_outputs_per_target} outputs per target, but "
                "an autoencoder reproduces each feature with one. Use a loss with one output per "
                "target."
            )
        check_targets(y, self.loss, "X")
        return y

    def validation_predictions(self, network: Network, parameters: Parameters, rows: Rows) -> Array:
        """Return the mean squared error and the loss of each row, along the last axis."""
        loss = self.loss
        result = np.empty((len(parameters), rows.n_rows, 2))
        for part, raw_predictions, x in _iter_blocks(network, parameters, rows.X, rows.index):
            targets = x.astype(np.float64)
            if not network.is_variational:
                result[:, part, 1] = loss.value(raw_predictions.astype(np.float64), targets[None])
            result[:, part, 0] = _compute_block_errors(raw_predictions, targets, loss.link)
        if network.is_variational:
            result[:, :, 1] = variational_losses(loss, network, parameters, rows.X, rows.index)
        return result

    def validation_loss(self, network: Network, predictions: Array, rows: Rows) -> float:
        losses = weighted_mean(predictions[:, 1], rows.selected_weight)
        return losses / loss_normalizer(network, self.loss)

    def validation_score(self, predictions: Array, rows: Rows) -> float:
        """Return R2 of the rows."""
        return _explained_variance(predictions[:, 0], rows.X, rows.index, rows.selected_weight)


def _explained_variance(
    errors: Array, X: Any, rows: IndexArray | None, weight: Array | None
) -> float:
    """Return R2 of rows from the mean squared error of each row."""
    error = float(np.average(errors, weights=weight))
    variance = _mean_variance(X, rows, weight)
    return 1 - error / variance if variance else float(error == 0)


def _contamination_threshold(scores: Array, contamination: float, weight: Array | None) -> float:
    """Return the score below which a share of the rows lies, by weight.

    It is halfway between two scores, so that rounding errors move no training row across it. If
    no score has that share below it, it is the largest score.
    """
    if weight is not None:
        scores = scores[weight > 0]
        weight = weight[weight > 0]
    share = contamination * (1 - _ROUNDING)
    highest = np.quantile(scores, share, weights=weight, method="inverted_cdf")
    # Equal rows may have scores that differ by rounding.
    above = scores[scores - highest > _ROUNDING * np.abs(scores)]
    return float(highest + above.min()) / 2 if len(above) else float(highest)


def _score_rows(
    loss: Loss, network: Network, parameters: Parameters, X: Any, n_draws: int
) -> Array:
    """Return the log-likelihood of each row with drawn codes, else the negative squared error."""
    if network.is_variational:
        with np.errstate(all="ignore"):
            return log_likelihoods(loss, network, parameters, X, n_draws)
    return -_squared_errors(loss.link, network, parameters, X)


def _squared_errors(link: Link, network: Network, parameters: Parameters, X: Any) -> Array:
    """Return the mean squared error of each row by one network, computed in blocks of rows."""
    errors = np.empty(X.shape[0])
    with np.errstate(all="ignore"):
        for part, raw_predictions, x in _iter_blocks(network, parameters, X, None):
            errors[part] = _compute_block_errors(raw_predictions, x, link)[0]
    return errors


def _iter_blocks(
    network: Network, parameters: Parameters, X: Any, rows: IndexArray | None
) -> Iterator[tuple[slice, Array, Array]]:
    """Yield blocks of rows: their slice, their raw predictions, and the dense rows."""
    n_at_once = max(1, _BLOCK_SIZE // (len(parameters) * X.shape[1]))
    for part, raw_predictions in Predictor(network, parameters).iter_parts(X, rows, n_at_once):
        yield part, raw_predictions, _dense_block(X, rows, part)


def _dense_block(X: Any, rows: IndexArray | None, part: slice) -> Array:
    """Return a block of X, or of some rows of X, as a dense array."""
    return np.asarray(as_dense(X[part] if rows is None else X[rows[part]]))


def _compute_block_errors(raw_predictions: Array, x: Array, link: Link) -> Array:
    """Return the mean squared error of each member and row; `raw_predictions` is overwritten.

    It is computed in double precision, as the residuals of good reconstructions are small.
    """
    link.inverse(raw_predictions, raw_predictions)
    difference = np.subtract(raw_predictions, x, dtype=np.float64)
    return np.asarray(np.square(difference, out=difference).mean(axis=2))


def _mean_variance(X: Any, rows: IndexArray | None, weight: Array | None) -> float:
    """Return the mean variance of the features, in double precision and in blocks of rows.

    One of the rows is subtracted from all others first, so equal rows have exactly zero variance.
    """
    n_rows = X.shape[0] if rows is None else len(rows)
    n_features = X.shape[1]
    share = np.ones(n_rows) if weight is None else weight
    share = share / share.sum()
    row = int(np.argmax(share > 0))
    origin = _dense_block(X, rows, slice(row, row + 1))
    n_at_once = max(1, _BLOCK_SIZE // n_features)

    def blocks() -> Iterator[tuple[Array, Array]]:
        for part in gen_batches(n_rows, n_at_once):
            block = _dense_block(X, rows, part)
            yield share[part], np.subtract(block, origin, dtype=np.float64, order="C")

    mean = np.sum([shares @ x for shares, x in blocks()], axis=0)
    squares = [shares @ np.square(np.subtract(x, mean, out=x), out=x) for shares, x in blocks()]
    return float(np.sum(squares, axis=0).mean())
