# ruff: noqa
"""Run by hand, with Python 2.7: ``azureml`` 0.2.7 (2016) and the samples of the help pages' time, unchanged, against a
running server. ``azureml.services`` needs Python 2: it reads members of ``inspect.getargs`` that Python 3 has not::

    azureml-classic-server --data-dir /tmp/data --port 8080 &
    python2.7 -m pip install --target /tmp/old azureml==0.2.7
    PYTHONPATH=/tmp/old python2.7 tests/old_clients/azureml_check.py /tmp/data/connection.json data/hours.csv

It scores with ``services.service`` and with ``urllib2``, runs a batch job with ``urllib2``, adds and refreshes an
endpoint, and shows what publishing code and reading Studio's datasets and experiments are told. The last argument is
a CSV file for *Bike Rental* in the server's own store.
"""

from __future__ import print_function

import json
import sys
import time
import urllib2

from azureml import Workspace, services

NAMES = "season yr mnth hr holiday weekday workingday weathersit temp atemp hum windspeed".split()
ROW = (1, 0, 1, 0, 0, 6, 0, 1, 0.24, 0.2879, 0.81, 0.0)


def told(what, work):
    try:
        print(what, "->", work())
    except Exception as error:
        print(what, "->", type(error).__name__, str(error)[:250])


def call(method, url, key, body=None):
    """As the samples did: urllib2, a JSON body, and for starting a job an empty one."""
    headers = {"Content-Type": "application/json", "Authorization": ("Bearer " + key)}
    req = urllib2.Request(url, body, headers)
    req.get_method = lambda: method
    return urllib2.urlopen(req).read()


def main():
    connection = json.load(open(sys.argv[1]))
    base, workspace = str(connection["management_url"]), str(connection["workspace_id"])
    token = str(connection["token"])
    listed = base + "/workspaces/" + workspace + "/webservices"
    ids = dict((s["Name"], s["Id"]) for s in json.loads(call("GET", listed, token)))

    def endpoint_of(name):
        return json.loads(call("GET", listed + "/" + ids[name] + "/endpoints", token))[0]

    scorer, trainer = endpoint_of("Bike Rental [predictive exp.]"), endpoint_of("Bike Rental")

    @services.service(scorer["ApiLocation"] + "/execute?api-version=2.0", scorer["PrimaryKey"])
    @services.types(**dict.fromkeys(NAMES, float))
    @services.returns(float)
    def rentals(season, yr, mnth, hr, holiday, weekday, workingday, weathersit, temp, atemp, hum, windspeed):
        pass

    told("services.service", lambda: rentals(*ROW))
    data = {
        "Inputs": {"input1": {"ColumnNames": NAMES, "Values": [[str(cell) for cell in ROW]]}},
        "GlobalParameters": {},
    }
    url = scorer["ApiLocation"] + "/execute?api-version=2.0&details=true"
    told("urllib2 score", lambda: call("POST", url, scorer["PrimaryKey"], str.encode(json.dumps(data))))

    def batch():
        url, key = trainer["ApiLocation"] + "/jobs", trainer["PrimaryKey"]
        payload = {"GlobalParameters": {"URI": sys.argv[2]}}
        job_id = call("POST", url + "?api-version=2.0", key, str.encode(json.dumps(payload)))[1:-1]
        call("POST", url + "/" + job_id + "/start?api-version=2.0", key, "")
        while True:
            result = json.loads(call("GET", url + "/" + job_id + "?api-version=2.0", key))
            status = result["StatusCode"]
            if status == 0 or status == "NotStarted" or status == 1 or status == "Running":
                time.sleep(1)
                continue
            return status, result["Results"]["output1"]["RelativeLocation"]

    told("urllib2 batch", batch)
    new = listed + "/" + ids["Bike Rental [predictive exp.]"] + "/endpoints/py27"
    told(
        "urllib2 add",
        lambda: json.loads(call("PUT", new, token, '{"ThrottleLevel": "High", "MaxConcurrentCalls": "40"}'))[
            "MaxConcurrentCalls"
        ],
    )
    told("urllib2 refresh", lambda: call("POST", new + "/refresh", token, '{"OverwriteResources": "True"}'))
    told("urllib2 delete", lambda: repr(call("DELETE", new, token)))
    told("Workspace.datasets", lambda: list(Workspace(workspace, token, base + "/").datasets))
    told("Workspace.experiments", lambda: list(Workspace(workspace, token, base + "/").experiments))

    def published():
        @services.publish(workspace, token, endpoint=base)
        @services.types(a=float)
        @services.returns(float)
        def half(a):
            return a / 2

    told("services.publish", published)


if __name__ == "__main__":
    main()
