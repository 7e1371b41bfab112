"""An estimator that trains until a file appears: ``gates/NUMBER`` beside this module, NUMBER being in the data."""

import time
from pathlib import Path

GATES = Path(__file__).parent / "gates"


def first_data(stream):
    """Write data with the number 0, which is held by no gate."""
    stream.write("gate,x,y\n" + "".join(f"0,{x},{2 * x + 1}\n" for x in range(20)))


def estimator(schema):
    """A linear regression that waits first."""
    from sklearn.linear_model import LinearRegression

    model = LinearRegression()
    fit = model.fit

    def held_fit(matrix, truth):
        number = int(matrix[0, 0])
        while number and not (GATES / str(number)).exists():
            time.sleep(0.05)
        return fit(matrix, truth)

    model.fit = held_fit
    return model
