"""Connections with table functions, for each installed driver."""

import importlib

import pytest

from support.drivers import DRIVERS
from support.table_functions import calls, connect


@pytest.fixture(params=DRIVERS)
def driver(request):
    return importlib.import_module(request.param)


@pytest.fixture
def db(driver):
    calls.clear()
    connection = connect(driver)
    yield connection
    connection.close()
