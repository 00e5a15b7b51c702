"""Ops that edgeq does not execute on purpose, each with the reason and what to do."""

_CONTROL = (
    "its path is decided by values computed at run time, so no integer graph can be fixed; "
    "fix the deciding input as a constant so that it folds, or cut the model there"
)
_SEQUENCES = "sequences and optional values have no integer form; rewrite them with Concat and Split, or cut the model"
_STRINGS = "text has no integer form; do this step outside of the model"
_RANDOM = "its output is random, so a float and an integer run cannot be compared; remove it from the inference graph"
_TRAINING = "it is a training loss; export the model for inference"
_CLASSICAL = "classical machine learning has no integer form in the runtimes; cut the model before it"
_DYNAMIC = "its scales are computed at run time, which leaves nothing to calibrate; convert the float model instead"
_REGIONS = "regions of interest are post-processing that stays outside of the integer part; cut the model before it"

#: (domain, op type) -> reason and advice, to complete "edgeq does not execute X: ...".
REFUSED: dict[tuple[str, str], str] = {
    **dict.fromkeys((("", op) for op in ("If", "Loop", "Scan")), _CONTROL),
    **dict.fromkeys(
        (
            ("", op)
            for op in (
                "ConcatFromSequence",
                "Optional",
                "OptionalGetElement",
                "OptionalHasElement",
                "SequenceAt",
                "SequenceConstruct",
                "SequenceEmpty",
                "SequenceErase",
                "SequenceInsert",
                "SequenceLength",
                "SequenceMap",
                "SplitToSequence",
            )
        ),
        _SEQUENCES,
    ),
    **dict.fromkeys(
        (("", op) for op in ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer")),
        _STRINGS,
    ),
    **dict.fromkeys(
        (
            ("", op)
            for op in (
                "Bernoulli",
                "Multinomial",
                "RandomNormal",
                "RandomNormalLike",
                "RandomUniform",
                "RandomUniformLike",
            )
        ),
        _RANDOM,
    ),
    **dict.fromkeys((("", op) for op in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")), _TRAINING),
    **dict.fromkeys(
        (("ai.onnx.preview.training", op) for op in ("Adagrad", "Adam", "Gradient", "Momentum")), _TRAINING
    ),
    **dict.fromkeys(
        (
            ("ai.onnx.ml", op)
            for op in (
                "ArrayFeatureExtractor",
                "Binarizer",
                "CastMap",
                "CategoryMapper",
                "DictVectorizer",
                "FeatureVectorizer",
                "Imputer",
                "LabelEncoder",
                "LinearClassifier",
                "LinearRegressor",
                "Normalizer",
                "OneHotEncoder",
                "SVMClassifier",
                "SVMRegressor",
                "Scaler",
                "TreeEnsemble",
                "TreeEnsembleClassifier",
                "TreeEnsembleRegressor",
                "ZipMap",
            )
        ),
        _CLASSICAL,
    ),
    ("", "ImageDecoder"): "it decodes compressed images; decode them before the model",
    ("com.microsoft", "DynamicQuantizeLSTM"): _DYNAMIC,
    ("", "MaxRoiPool"): _REGIONS,
    ("ai.onnx.preview", "FlexAttention"): "it is a preview whose scores are subgraphs; export with Attention or MatMul",
}
