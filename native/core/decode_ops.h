// One decode function per argument struct; decode_heads.cc dispatches on the op.
#pragma once

#include "core/decode.h"

namespace mome {

struct LayerNormForward;
struct LayerNormBackward;
struct LinearForward;
struct LinearBackward;
struct QkvForward;
struct QkvBackward;
struct AttentionForward;
struct AttentionBackward;
struct ProjResidualForward;
struct ProjResidualBackward;
struct ExpertFfnForward;
struct ExpertFfnBackward;
struct PatchEmbedForward;
struct PatchEmbedBackward;
struct TextEmbedForward;
struct TextEmbedBackward;

void decode(Decoder& d, LayerNormForward& a);
void decode(Decoder& d, LayerNormBackward& a);
void decode(Decoder& d, LinearForward& a);
void decode(Decoder& d, LinearBackward& a);
void decode(Decoder& d, QkvForward& a);
void decode(Decoder& d, QkvBackward& a);
void decode(Decoder& d, AttentionForward& a);
void decode(Decoder& d, AttentionBackward& a);
void decode(Decoder& d, ProjResidualForward& a);
void decode(Decoder& d, ProjResidualBackward& a);
void decode(Decoder& d, ExpertFfnForward& a);
void decode(Decoder& d, ExpertFfnBackward& a);
void decode(Decoder& d, PatchEmbedForward& a);
void decode(Decoder& d, PatchEmbedBackward& a);
void decode(Decoder& d, TextEmbedForward& a);
void decode(Decoder& d, TextEmbedBackward& a);

}  // namespace mome
