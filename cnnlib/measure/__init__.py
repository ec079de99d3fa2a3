"""What can be computed of a network: sizes, counts, memory and receptive fields.

Functions that take a network leave it as it was. Most take any ``torch.nn.Module``; those that look into the blocks of
one architecture say so. Counts are those of one image, unless a function takes a ``batch_size``, and a multiply-add is
one multiplication with its addition in a convolution or matrix product, biases left out, as the papers count.
"""

from cnnlib.errors import DoesNotFit
from cnnlib.measure.allocated import allocated_peak
from cnnlib.measure.arithmetic import ConvArithmetic, conv_arithmetic, conv_output_size, pool_output_size
from cnnlib.measure.channels import ChannelWeights, channel_weights
from cnnlib.measure.convergence import convergence_order
from cnnlib.measure.distortions import DESTROYS_STRUCTURE, KEEPS_STRUCTURE, blurred, equal_distortions
from cnnlib.measure.dry_run import smallest_input
from cnnlib.measure.effective import effective_receptive_field, effective_size, effective_spread
from cnnlib.measure.errors import BadArgument, NotTraceable, UnknownLayer, UnsupportedOperation
from cnnlib.measure.gradients import BlockFlow, Flow, block_flow, gradient_flow
from cnnlib.measure.heads import HeadGradient, head_gradients
from cnnlib.measure.inference import Inference, inference
from cnnlib.measure.initial import initial_losses
from cnnlib.measure.layers import LayerRow, LayerTable, activation_bytes, count_parameters, layer_table, multiply_adds
from cnnlib.measure.lesions import Lesion, lesions
from cnnlib.measure.memory import OPTIMIZER_STATES, TrainingMemory, training_memory
from cnnlib.measure.projection import Projection, bottleneck_projections, projection
from cnnlib.measure.responses import BlockResponse, block_responses
from cnnlib.measure.reuse import SourceWeights, source_weights
from cnnlib.measure.shattering import gradient_correlation
from cnnlib.measure.similarity import features, nearest, perceptual_distance, pixel_distance, same_class
from cnnlib.measure.theoretical import FieldRow, ReceptiveField, receptive_field
