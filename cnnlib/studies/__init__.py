"""Experiments with records: what is compared, what was measured, and what that shows."""

from cnnlib.studies import (
    alexnet_tricks,
    closing,
    degradation,
    efficiency,
    families,
    ilsvrc,
    keypoints,
    precision,
    released,
    search,
    variants,
)
from cnnlib.studies.alexnet_tricks import steps_to
from cnnlib.studies.comparison import compare, with_recorded
from cnnlib.studies.ensembles import Ensemble, ensemble
from cnnlib.studies.errors import RecordError, StudyError, Unfinished
from cnnlib.studies.fusion import Fused, Fusion, fuse
from cnnlib.studies.mixtures import Mixture, Mixtures, mix
from cnnlib.studies.overview import first_to_last, overview
from cnnlib.studies.record import Probed, Record, load_records
from cnnlib.studies.running import (
    load_ensemble,
    load_mixtures,
    publish,
    run,
    run_ensemble,
    run_mixtures,
    run_studies,
)
from cnnlib.studies.speed import LayerTime, Speed, layer_times, load_speeds, measure_speed
from cnnlib.studies.statistics import Summary, differ, summarise
from cnnlib.studies.study import STUDIES, Arm, Scale, Study, find_study, register
