"""Fits the scikit-learn pipeline that the peers serve, and saves it in a peer's format; runs in the peer's environment.

The same estimator, data and encoding as the server's experiment *Census Model*: the answers are compared before
anything is measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder


def fitted(data: Path, trees: int) -> Pipeline:
    """The pipeline.

    :param data: CSV with the label in its last column.
    :param trees: of the boosting.
    """
    frame = pd.read_csv(data, skipinitialspace=True, keep_default_na=False)
    label = frame.pop("income")
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encoded = ColumnTransformer([("texts", codes, texts)], remainder="passthrough")
    classifier = HistGradientBoostingClassifier(max_iter=trees, random_state=0)
    return Pipeline([("encode", encoded), ("classify", classifier)]).fit(frame, label)


def main() -> None:
    """``pipeline.py DATA TARGET FORMAT``: a format ``small0`` or ``small1`` means one of two quicker models."""
    data, target, form = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    trees = {"small0": 2, "small1": 4}.get(form, 100)
    model = fitted(data, trees)
    if form == "mlflow":
        import mlflow.sklearn

        mlflow.sklearn.save_model(
            model, str(target), pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle"
        )
    else:
        joblib.dump(model, target)


if __name__ == "__main__":
    main()
