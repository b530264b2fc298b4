"""Runs `heft.versions.push` where TFX's Pusher copies a folder."""

import logging
from pathlib import Path
from typing import Any

from tfx.components.pusher.executor import Executor as StockExecutor
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import io_utils, json_utils, proto_utils

from heft.errors import GateError
from heft.versions import REFUSED_FILE, push
from serving.labels import labelled_versions

__all__ = ["Executor"]


class Executor(StockExecutor):
    """See `Pusher`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model; what is refused is not pushed, and the run goes on."""
        pushed_model = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed_model)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        told = json_utils.loads(exec_properties["custom_config"])
        model = self.GetModelPath(input_dict)
        spared = labelled_versions(told["models_config"]) if told["models_config"] else ()
        try:
            pushed = push(
                model, destination.filesystem.base_directory, told["keep_versions"], spared
            )
        except GateError as error:
            logging.getLogger(__name__).warning("not pushed: %s", error)
            io_utils.write_string_file(str(Path(pushed_model.uri) / REFUSED_FILE), str(error))
            self._MarkNotPushed(pushed_model)
            return
        io_utils.copy_dir(model, pushed_model.uri)
        self._MarkPushed(pushed_model, str(pushed.version.path), str(pushed.version.number))
