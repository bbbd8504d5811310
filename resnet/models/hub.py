"""Weights from the Hugging Face Hub: `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`, downloaded once into the Hub's own cache."""

import logging
import sys
from pathlib import Path

from resnet.config.launched import is_first_process
from resnet.config.names import HUB
from resnet.models.weights import WeightsError

FILES = ("model.safetensors", "pytorch_model.bin")  # the first that a repository has


def _cached(source: str) -> Path | None:
    """Returns the file with the weights if it has been downloaded before. Raises WeightsError for a name that the Hub cannot have."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ModuleNotFoundError:
        raise WeightsError("huggingface_hub is not installed; pip install -e '.[hub]'") from None
    repository, revision = _split(source)
    try:
        found = [try_to_load_from_cache(repository, file, revision=revision) for file in FILES]
    except HFValidationError:
        raise WeightsError(f"{repository} is no name of a repository; write {HUB}OWNER/NAME, as in {HUB}timm/resnet18.a1_in1k") from None
    return next((Path(path) for path in found if isinstance(path, str)), None)


def hub_file(source: str, may_download: bool) -> Path:
    """Returns the file with the weights, from the cache if it is there. Raises WeightsError if there is none, or no network."""
    if path := _cached(source):
        return path
    if not may_download:
        raise WeightsError("it is not in the Hugging Face Hub's cache, and data.download=false says to download nothing")
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    repository, revision = _split(source)
    if is_first_process():
        print(f"{source}: fetching it from the Hugging Face Hub", file=sys.stderr)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each attempt
    for file in FILES:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled):
            raise WeightsError("it has not been downloaded before, and the Hugging Face Hub cannot be reached") from None
        except hub.EntryNotFoundError:
            continue
        except hub.GatedRepoError:
            raise WeightsError("its owner asks for consent on its page; give it there, then log in: hf auth login") from None
        except hub.RepositoryNotFoundError:
            raise WeightsError(f"the Hugging Face Hub has no public repository {repository}; for a private one: hf auth login") from None
        except hub.RevisionNotFoundError:
            raise WeightsError(f"{repository} has no revision {revision}") from None
        except (hub.HfHubHTTPError, OSError) as error:
            raise WeightsError(f"it cannot be downloaded ({' '.join(str(error).split())[:200]})") from None
    raise WeightsError(f"{repository} has neither {' nor '.join(FILES)}")


def _split(source: str) -> tuple[str, str | None]:
    repository, _, revision = source.removeprefix(HUB).partition("@")
    return repository, revision or None
