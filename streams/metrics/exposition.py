"""The text that Prometheus reads, of samples and of the process itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from streams.metrics.catalogue import CATALOGUE, Metric
from streams.metrics.meters import Histogram, Sample, Samples


def exposed(samples: Samples, accept: str = "") -> tuple[bytes, str]:
    """Return the exposition and its content type; `process_…` come on top.

    accept: the request's header of that name. Errors: KeyError for a metric that is not in the
    catalogue, ValueError for labels that it does not have.
    """
    encode, content_type = choose_encoder(accept)
    text: bytes = encode(_Once([*_families(samples), *_PROCESS.collect()]))
    return text, str(content_type)


class _Once:
    """What the encoders take for a registry."""

    def __init__(self, families: Iterable[Any]) -> None:
        self.collect = families.__iter__


_PROCESS = ProcessCollector(registry=None)


def _families(samples: Samples) -> Iterator[Any]:
    for name, measured in samples.items():
        metric = CATALOGUE[name]
        family = _FAMILIES[metric.kind](name, metric.meaning, labels=metric.labels)
        for labels, value in measured:
            if len(labels) != len(metric.labels):
                raise ValueError(f"{name} has the labels {metric.labels}, and not {labels}")
            _add(family, metric, labels, value)
        yield family


_FAMILIES = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _add(family: Any, metric: Metric, labels: Iterable[str], value: Sample | Any) -> None:
    if isinstance(value, Histogram):
        bounds = [*(repr(float(bound)) for bound in value.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(value.counts), strict=True))
        family.add_metric(labels, buckets, sum_value=value.total)
    elif metric.kind == "histogram":
        raise ValueError(f"{metric.name} is a histogram")
    else:
        family.add_metric(labels, value)
