"""What Kubeflow says becomes what TFX takes, and back."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact

from heft.pod.places import bring_home, local_path, send_back, type_title

DECLARED = {
    "artifacts": {
        "examples": {"artifactType": {"instanceSchema": "title: tfx.Examples\ntype: object\n"}},
        "table": {"artifactType": {"instanceSchema": "title: heft.TextEmbeddings\n"}},
    }
}
OWN = {"heft.TextEmbeddings": "components.artifacts.TextEmbeddings"}


def _told() -> dict:
    return {
        "inputs": {
            "artifacts": {
                "examples": {"artifacts": [{"name": "1", "uri": "s3://shop/a/examples"}]},
                "table": {"artifacts": [{"name": "2", "uri": "s3://shop/a/table"}]},
            }
        },
        "outputs": {
            "artifacts": {
                "model": {
                    "artifacts": [{"uri": "gs://b/run/model", "type": {"schemaTitle": "tfx.Model"}}]
                }
            },
            "outputFile": "gs://b/run/executor_output.json",
        },
    }


@pytest.mark.parametrize("uri", ["gs://b/x/y", "s3://b/x/y", "minio://b/x/y"])
def test_a_bucket_is_where_kubeflow_copies_it(uri: str) -> None:
    """The SDK of Kubeflow says where, to the components that are written with it."""
    assert local_path(uri) == Artifact(uri=uri).path


def test_a_path_stays_one() -> None:
    assert local_path("/mnt/heft/x") == "/mnt/heft/x"
    assert local_path("file:///tmp/x") == "/tmp/x"


def test_types_that_the_backend_leaves_out_are_filled_in() -> None:
    told = _told()
    bring_home(told, DECLARED, OWN)
    [examples] = told["inputs"]["artifacts"]["examples"]["artifacts"]
    [table] = told["inputs"]["artifacts"]["table"]["artifacts"]
    assert examples["type"] == {"schemaTitle": "tfx.Examples"}
    assert table["type"] == {"schemaTitle": "components.artifacts.TextEmbeddings"}
    assert told["outputs"]["outputFile"] == "/gcs/b/run/executor_output.json"


def test_what_a_node_stamps_on_an_artifact_is_an_address_again() -> None:
    told = _told()
    before = bring_home(told, DECLARED, OWN)
    answer = {
        "artifacts": {
            "model": {
                "artifacts": [
                    {
                        "uri": "/gcs/b/run/model",
                        "metadata": {
                            "of": "/s3/shop/a/examples/Split-train", "note": "as it is", "n": 1,
                            "near": "/s3/shop/a/examples-2",
                        },
                    }
                ]
            }
        }
    }  # fmt: skip
    send_back(answer, before)
    [model] = answer["artifacts"]["model"]["artifacts"]
    assert model["uri"] == "gs://b/run/model"
    assert model["metadata"] == {
        "of": "s3://shop/a/examples/Split-train", "note": "as it is", "n": 1,
        "near": "/s3/shop/a/examples-2",
    }  # fmt: skip


uris = st.builds(
    "{}://{}".format, st.sampled_from(["gs", "s3", "minio"]),
    st.text("abc/-9", min_size=1, max_size=12),
)  # fmt: skip


@given(st.lists(uris, min_size=1, max_size=4, unique=True))
def test_there_and_back_is_where_it_was(addresses: list[str]) -> None:
    outputs = {
        str(i): {"artifacts": [{"uri": uri, "type": {"schemaTitle": "tfx.Model"}}]}
        for i, uri in enumerate(addresses)
    }
    told = {"inputs": {}, "outputs": {"artifacts": copy.deepcopy(outputs)}}
    before = bring_home(told, {}, {})
    answer = {"artifacts": told["outputs"]["artifacts"]}
    send_back(answer, before)
    assert {k: v["artifacts"][0]["uri"] for k, v in answer["artifacts"].items()} == {
        k: v["artifacts"][0]["uri"] for k, v in outputs.items()
    }


def test_a_type_is_known_by_its_title() -> None:
    assert type_title({"instanceSchema": "title: 'heft.Report'\ntype: object\n"}) == "heft.Report"
    assert type_title({"schemaTitle": "tfx.Model"}) == "tfx.Model"
    assert type_title({}) == "tfx.Artifact"
