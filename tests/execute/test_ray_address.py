"""Where a Ray cluster that is started here listens. Ray itself is not needed for that."""

import importlib
import sys
import types


def test_a_cluster_that_is_started_here_is_bound_to_this_machine(monkeypatch):
    given = []
    stub = types.ModuleType("ray")
    stub.init = lambda **options: given.append(options)
    monkeypatch.setitem(sys.modules, "ray", stub)
    monkeypatch.delitem(sys.modules, "rocompare.execute.ray", raising=False)
    module = importlib.import_module("rocompare.execute.ray")
    del sys.modules["rocompare.execute.ray"]  # the stub stays in this test
    module._connect(2, None)
    module._connect(None, "auto")
    ours, theirs = given
    assert ours["_node_ip_address"] == "127.0.0.1" and ours["include_dashboard"] is False
    assert ours["address"] == "local" and ours["num_cpus"] == 2
    assert "_node_ip_address" not in theirs and theirs["address"] == "auto"
