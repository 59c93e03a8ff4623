"""The metrics of what is noticed: a part of the list in metrics.py.

Must not know: who counts what when, the exposition format.
"""

from __future__ import annotations

from typing import Final

from sidecar.telemetry.room_readings import each_of_watch, of_watch
from sidecar.telemetry.sources import Metric

# fmt: off
WATCH_METRICS: Final[tuple[Metric, ...]] = (
    # of what is noticed
    Metric("aegis_detection_lag_seconds", "gauge",
           "Age of the oldest receipt that detections are to look at and have not.", (),
           of_watch(lambda w: w.lag_s())),
    Metric("aegis_detection_tenants", "gauge",
           "Tenants whose record this process watches; of several on a store one does.", (),
           of_watch(lambda w: w.watching)),
    Metric("aegis_detection_passes_total", "counter", "Pages of receipts that were looked at.",
           (), of_watch(lambda w: w.counts.passes)),
    Metric("aegis_detection_receipts_total", "counter",
           "Receipts that were looked at, those read again after a start among them.", (),
           of_watch(lambda w: w.counts.receipts)),
    Metric("aegis_detection_events_total", "counter", "Events among them.", (),
           of_watch(lambda w: w.counts.events)),
    Metric("aegis_detection_busy_seconds_total", "counter",
           "Time of the event loop spent on it; its rate is the share, which is bounded.", (),
           of_watch(lambda w: w.busy_s)),
    Metric("aegis_detection_hits_total", "counter",
           "Events that completed what a detection looks for.", (),
           of_watch(lambda w: w.counts.hits)),
    Metric("aegis_detection_dropped_total", "counter",
           "Hits that could not be recorded whatever was tried; should stay 0.", (),
           of_watch(lambda w: w.counts.dropped)),
    Metric("aegis_detection_overtaken_total", "counter",
           "Times another process, or a person, was faster, so that it was done again.", (),
           of_watch(lambda w: w.counts.overtaken)),
    Metric("aegis_detection_rebuilds_total", "counter",
           "Times what detections look back at was read again.", (),
           of_watch(lambda w: w.counts.rebuilds)),
    Metric("aegis_detection_rebuilds_cut_total", "counter",
           "Those that could not read all of it, because too much was recorded.", (),
           of_watch(lambda w: w.counts.rebuilds_cut)),
    Metric("aegis_detection_condition_errors_total", "counter",
           "Events on which a condition of a detection could not be evaluated.", (),
           of_watch(lambda w: w.counts.condition_errors)),
    Metric("aegis_detection_forgotten_total", "counter",
           "What detections forgot before its time, because there was too much.", (),
           of_watch(lambda w: w.counts.forgotten)),
    Metric("aegis_detection_errors_total", "counter",
           "Times watching could not go on for a while, by cause.", ("code",),
           each_of_watch(lambda c: c.errors)),
    Metric("aegis_alerts_raised_total", "counter", "Alerts that were raised, by severity.",
           ("severity",), each_of_watch(lambda c: c.raised)),
    Metric("aegis_alerts_joined_total", "counter", "Hits that joined an alert there was.", (),
           of_watch(lambda w: w.counts.joined)),
    Metric("aegis_alerts_without_incident_total", "counter",
           "Alerts that would have opened an incident, where too many are open.", (),
           of_watch(lambda w: w.counts.withheld)),
    Metric("aegis_detection_responses_total", "counter",
           "Responses that detections asked for at soc.level respond: done, or recommended where "
           "they may not be done.", ("result",), each_of_watch(lambda c: c.responses)),
    Metric("aegis_chain_breaks_total", "counter",
           "Places found at which a chain of receipts does not hold; should stay 0.", (),
           of_watch(lambda w: w.counts.breaks)),
    Metric("aegis_chain_swept_receipts_total", "counter",
           "Older receipts that were held against their hashes again.", (),
           of_watch(lambda w: w.counts.swept)),
)
# fmt: on
