"""What every seed of a training shares: configuration, runtime, data."""

from dataclasses import dataclass, replace

from fastcifar.config import Config
from fastcifar.dataset.image_set import Dataset, split_holdout
from fastcifar.dataset.obtain import obtain_dataset
from fastcifar.dataset.statistics import ChannelStatistics, channel_statistics
from fastcifar.errors import DataError
from fastcifar.loader.choose import LoaderChoice, check_loader, choose_loader
from fastcifar.model.registry import check_image_sizes, check_model_name
from fastcifar.paths import named_data_dir
from fastcifar.runtime import Runtime
from fastcifar.settings import ResolvedConfig
from fastcifar.training.graph_choice import with_graph
from fastcifar.training.observer import Observer
from fastcifar.training.writers import check_writers


@dataclass(frozen=True)
class Material:
    """Everything that is chosen and loaded before the first network is built."""

    resolved: ResolvedConfig
    runtime: Runtime
    dataset: Dataset
    statistics: ChannelStatistics
    loader_choice: LoaderChoice

    @property
    def config(self) -> Config:
        return self.resolved.config

    @property
    def evaluated_on(self) -> str:
        return "holdout" if self.config.data.holdout else "test"

    def with_seed(self, seed: int) -> "Material":
        """The same for a single run of one seed."""
        config = replace(self.config, training=replace(self.config.training, seed=seed, runs=1))
        return replace(self, resolved=replace(self.resolved, config=config))


def check_before_loading(config: Config) -> None:
    """Refuse what needs no data to be refused, so that nobody waits for a download to hear of a typing error.

    Raises:
        UsageError: no such network, or images too small for it.
        DeviceError: a loader or a writer is asked for whose package is not installed.
    """
    check_model_name(config.model.name)
    check_image_sizes(config.model.name, (size for _, size in config.schedule.image_sizes))
    check_loader(config.loader)
    check_writers(config.log)


def load_material(resolved: ResolvedConfig, runtime: Runtime, observer: Observer, progress: bool = False) -> Material:
    """Read the data (downloading it where it may), set the hold-out aside, choose the loader.

    Args:
        runtime: with the choice of an optimizer; that of a graph is added, since it depends on the loader.
        progress: show a bar if something is downloaded.
    """
    data = resolved.config.data
    dataset = obtain_dataset(data.dataset, named_data_dir(data.dir), data.offline, observer.message, progress)
    if data.holdout:
        dataset = split_holdout(dataset, data.holdout)
    statistics = channel_statistics(dataset.train.images)
    if min(statistics.std) == 0:
        raise DataError(f"{dataset.source}: a colour channel has the same value everywhere", "check the images")
    loader_choice = choose_loader(resolved.config.loader, dataset, runtime.device)
    runtime = with_graph(runtime, resolved.config.runtime.graph, loader_choice.kind)
    return Material(resolved, runtime, dataset, statistics, loader_choice)
