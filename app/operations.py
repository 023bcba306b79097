"""Which operations may stand in the graph of a model: those that compute, and what those of a saver are.

A network that needs another one gets it by a line here, after a look at what that operation can do besides.
"""

from typing import Final


def _listed(names: str) -> frozenset[str]:
    return frozenset(names.split())


# TensorFlow's. No loops among them: a graph that never ends could not be stopped.
COMPUTING: Final = _listed("""
    Abs Add AddN AddV2 All Any ArgMax ArgMin AvgPool BatchMatMul BatchMatMulV2 BatchToSpaceND BiasAdd
    BroadcastTo Cast Ceil ClipByValue Concat ConcatV2 Const Conv2D Cos Cumsum DepthToSpace
    DepthwiseConv2dNative Div DivNoNan Einsum Elu Equal Erf Exp ExpandDims Expm1 Fill Floor FloorDiv
    FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater
    GreaterEqual Identity IdentityN Inv IsFinite IsInf IsNan L2Loss LeakyRelu Less LessEqual Log Log1p
    LogicalAnd LogicalNot LogicalOr LogSoftmax MatMul Max Maximum MaxPool Mean Min Minimum MirrorPad Mul
    MulNoNan Neg NoOp NotEqual OneHot OnesLike Pack Pad PadV2 Placeholder PlaceholderWithDefault Pow
    Prod Range Rank RealDiv Reciprocal Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor ReverseV2
    Rint Round Rsqrt Select SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Size Slice Softmax Softplus
    Softsign SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze StopGradient
    StridedSlice Sub Sum Tan Tanh Tile TopKV2 Transpose Unpack Where Xlogy ZerosLike

    DisableCopyOnRead PartitionedCall ReadVariableOp StatefulPartitionedCall VarHandleOp
""")

# Give variables their first values, when the graph is loaded.
STARTING: Final = _listed("AssignVariableOp VarIsInitializedOp")

# Write weights to files and read them again.
SAVING: Final = STARTING | _listed(
    "MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch StringJoin"
)

# OpenVINO's.
LAYERS: Final = _listed("""
    Abs Add AvgPool BatchNormInference Broadcast Ceiling Clamp Concat Const Convert ConvertLike
    Convolution Divide Elu Equal Erf Exp FakeQuantize Floor FloorMod Gather Gelu Greater GreaterEqual
    GroupConvolution HSigmoid HSwish Interpolate IsFinite IsInf IsNaN Less LessEqual Log LogicalAnd
    LogicalNot LogicalOr LogSoftmax MatMul Maximum MaxPool Minimum Mod Multiply MVN Negative NormalizeL2
    NotEqual OneHot Pad Parameter Power PReLU Range ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReLU Reshape Result Round Select Selu ShapeOf Sigmoid Sign Slice SoftMax
    SoftPlus Split Sqrt SquaredDifference Squeeze StridedSlice Subtract Swish Tanh Tile TopK Transpose
    Unsqueeze VariadicSplit
""")
