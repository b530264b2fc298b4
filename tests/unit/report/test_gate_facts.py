"""What AnomalyGate leaves in its artifact is what the report shows of it."""

import re
from pathlib import Path

from heft.gate.comparing import Measured
from heft.gate.findings import Findings
from heft.gate.labels import LabelCounts
from heft.gate.leaks import KnownLabel
from heft.report import parse_facts, render
from heft.report.collect import gate_facts


def test_the_gates_findings_are_shown(tmp_path: Path) -> None:
    found = Findings(
        span=4,
        anomalies=(),
        notes=("Skew was not checked.",),
        compared_with=(3, 2),
        measured=(Measured("train", "brand", "span 3", "L-infinity", 0.0421, 0.1),),
        labels=LabelCounts(rows=1_000, clicks=62, conversions=5, clicks_read=70, orphan_clicks=7),
        usual=LabelCounts(rows=2_000, clicks=120, conversions=12),
        known_labels=(KnownLabel("price", "ctr", 0.61, 1_000, 62),),
    )
    found.save(str(tmp_path))
    facts = parse_facts({"gate": gate_facts(str(tmp_path))})
    assert facts.gate is not None and facts.gate.span == 4
    assert facts.gate.known_labels[0].auc == 0.61
    text = re.sub(r"<[^>]+>", "", render(facts))
    for said in ("Compared with span 3, 2", "6.2% usually 6.0%", "0.0421", "Skew was not checked"):
        assert said in text, said
    assert gate_facts(None) is None and gate_facts(str(tmp_path / "none")) is None
