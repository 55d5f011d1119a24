#!/bin/sh
# Time an ONNX model with NVIDIA's trtexec on a machine behind ssh, such as a Jetson; triaxis reads what trtexec prints.
#
#   trtexec.sh HOST MODEL BATCH SIDE [MORE ARGUMENTS OF trtexec]
#
#   profile: {runtime: command, time_limit_s: 900, command: "examples/devices/trtexec.sh jetson {model} {batch} {side} --fp16"}
#
# On this machine itself no script is needed: trtexec --onnx={model} --shapes=images:{batch}x3x{side}x{side}
set -eu
host=$1 model=$2 batch=$3 side=$4
shift 4
remote=/tmp/triaxis-$(basename "$(dirname "$model")").onnx
scp -q "$model" "$host:$remote"
trap 'ssh "$host" rm -f "$remote" </dev/null' EXIT
ssh "$host" trtexec --onnx="$remote" --shapes=images:"$batch"x3x"$side"x"$side" "$@" </dev/null
