from prometheus_client.parser import text_string_to_metric_families

from apdist.serving.metrics import Metrics


def test_figures_are_read_by_prometheus() -> None:
    metrics, others = Metrics(), Metrics()
    metrics.gauge("queue_length", "Waiting.", lambda: 3)
    metrics.answered("/v1/search", 200, 0.02)
    metrics.answered("/v1/search", 503, 7)
    metrics.batch(12, 0.1)
    metrics.reloaded(is_ok=False)
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }
    assert found["apdist_requests_total", "/v1/search", "503"] == 1
    assert found["apdist_request_seconds_bucket", "/v1/search", "0.025"] == 1
    assert found["apdist_request_seconds_count", "/v1/search"] == 2
    assert found["apdist_batch_size_bucket", "16.0"] == 1
    assert found["apdist_batch_size_sum",] == 12
    assert found["apdist_index_reloads_total", "failed"] == 1
    assert found["apdist_queue_length",] == 3
    assert b"/v1/search" not in others.text()
