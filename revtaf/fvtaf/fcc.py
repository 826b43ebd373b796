"""Fine-grained Cross-modal Consistency: paper section 3.4, Eq. 12-14.

A sentence of the retrieved report and an entity of the image that mean the same should look at one place. `fcc_loss` is
Eq. 14 as printed, which rewards every overlap; `difference_loss` is what the words around it ask for: overlap and
similarity should agree.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

IOUS = ("soft", "hard")
# How many standard deviations above the mean a centred cosine is as likely related as not. A sentence speaks of one to
# three of 75 entities: their cosines stand at 4 and more with TF-IDF, those of the others below 2.
RELATED = 2.5
HARD_THRESHOLD = 0.5
# A map whose range is below this share of its maximum is constant: it is normalised to 0, without gradient.
# Otherwise the rounding noise of a uniform map would be blown up to fill [0, 1].
FLAT = 1e-5
# Smallest standard deviation of centred cosines that is divided by. Without it texts that are all alike give 0 / 0.
SPREAD_FLOOR = 1e-3
# Smallest union and norm that are divided by. Without it two constant maps, or a zero text, give 0 / 0.
DIVISOR_FLOOR = 1e-8


def cosine_matrix(global_text: Tensor, local_text: Tensor) -> Tensor:
    """Eq. 12: global_text (B, N, D), local_text (B, M, D) -> (B, N, M) in [-1, 1], float32.

    On the text embeddings as the encoder gives them, before any projection: both sources share that space.
    """
    if global_text.shape[-1] != local_text.shape[-1]:
        raise ValueError(f"both texts need the same width, got {global_text.shape[-1]} and {local_text.shape[-1]}")
    with torch.autocast(global_text.device.type, enabled=False):
        dtype = torch.promote_types(global_text.dtype, torch.float32)
        a = F.normalize(global_text.to(dtype), dim=-1, eps=DIVISOR_FLOOR)
        return a @ F.normalize(local_text.to(dtype), dim=-1, eps=DIVISOR_FLOOR).mT


def relatedness(
    global_text: Tensor, local_text: Tensor, mask: Tensor | None = None, temperature: float = 0.5
) -> Tensor:
    """S' of `difference_loss`: global_text (B, N, D), local_text (B, M, D) -> (B, N, M) in (0, 1), float32.

    S' = sigmoid((c / s - RELATED) / temperature),  c = cos(sentence - mean of the batch's sentences, entity - mean of
    its image's entities),  s = root mean square of c over the pairs of the batch. Masked sentences (B, N) count in no
    mean, and what stands in their rows means nothing.

    Why centred, each source by its own mean: encoders like BERT put all texts into a narrow cone (cosines of .9 between
    any two), and the entities' texts share words that no sentence has ("not exist"). Both are constants, and a constant
    added to all sentences or to all entities changes nothing here. Why in standard deviations: the size of a cosine
    between texts that mean the same differs between encoders; that they stand out does not. A pair is compared with
    the others, so that few must be related: with less than 1 + RELATED^2 pairs none can reach .5.
    """
    with torch.autocast(global_text.device.type, enabled=False):
        dtype = torch.promote_types(global_text.dtype, torch.float32)
        sentences, entities = global_text.to(dtype), local_text.to(dtype)
        if mask is None:
            mask = torch.ones(sentences.shape[:2], dtype=torch.bool, device=sentences.device)
        sentences = torch.where(mask[..., None], sentences, 0)
        mean = sentences.sum(dim=(0, 1)) / mask.sum().clamp_min(1)
        cosine = cosine_matrix(_centred(sentences, mean), _centred(entities, entities.mean(dim=1, keepdim=True)))
        pairs = (mask.sum() * entities.shape[1]).clamp_min(1)
        spread = (torch.where(mask[..., None], cosine, 0).square().sum() / pairs).sqrt()
        return ((cosine / spread.clamp_min(SPREAD_FLOOR) - RELATED) / temperature).sigmoid()


def _centred(texts: Tensor, mean: Tensor) -> Tensor:
    """texts - mean; zero where that is rounding noise, which would otherwise be scaled to length 1."""
    apart = texts - mean
    noise = apart.norm(dim=-1, keepdim=True) <= FLAT * texts.norm(dim=-1, keepdim=True)
    return apart.masked_fill(noise, 0)


def difference_loss(
    global_map: Tensor,
    local_map: Tensor,
    related: Tensor,
    mask: Tensor | None = None,
    iou: str = "soft",
    upsample: int | None = None,
) -> Tensor:
    """Mean over the valid sentences n and all entities m of (S'_nm - O_nm)^2.

    related (B, N, M): S', from `relatedness`; everything else as in `fcc_loss`, O too. Related pairs are drawn together
    and unrelated ones apart; the loss is 0 where the maps overlap as the texts are related.
    """
    # DIFFERS: Eq. 14 is 1 - S O. Section 3.4 says that the discrepancy of S and O is penalised, which this does.
    overlap = _overlap(global_map, local_map, iou, upsample)
    return _mean((related.to(overlap.dtype) - overlap).square(), mask)


def fcc_loss(
    global_map: Tensor,
    local_map: Tensor,
    cosine: Tensor,
    mask: Tensor | None = None,
    iou: str = "soft",
    upsample: int | None = None,
) -> Tensor:
    """Eq. 14: mean over the valid sentences n and all entities m of 1 - S_nm O_nm.

    S = sigmoid(cosine), in [.27, .73];  O = sum_p min(a_np, b_mp) / sum_p max(a_np, b_mp), in [0, 1]
    (Eq. 13), with a, b the maps, each normalised to [0, 1] by its own minimum and maximum.

    global_map (B, N, P), local_map (B, M, P), 0 or more; cosine (B, N, M); mask (B, N) True where a
    sentence exists -> scalar. Perfect agreement of all pairs still costs .27 or more, since S never reaches
    1. Without a valid sentence the loss is 0.
    iou "hard": the normalised maps are thresholded at .5 first (the released behaviour); no gradient
    reaches the maps.
    upsample: maps are enlarged bilinearly to that side before they are normalised (the released behaviour:
    224), one image at a time and once more in the backward pass, so that memory stays bounded.
    """
    # DIFFERS: Eq. 14 divides by N, the longest report of the database; padding would then dilute the loss
    # of short reports, so the mean is over the sentences that exist. The paper does not say how maps are
    # normalised.
    overlap = _overlap(global_map, local_map, iou, upsample)
    return _mean(1 - cosine.to(overlap.dtype).sigmoid() * overlap, mask)


def _overlap(global_map: Tensor, local_map: Tensor, iou: str, upsample: int | None) -> Tensor:
    """O of Eq. 13 (B, N, M), in float32."""
    if iou not in IOUS:
        raise ValueError(f"iou must be one of {IOUS}, got {iou!r}")
    overlap_of = soft_iou if iou == "soft" else hard_iou
    with torch.autocast(global_map.device.type, enabled=False):
        dtype = torch.promote_types(global_map.dtype, torch.float32)
        a, b = global_map.to(dtype), local_map.to(dtype)
        return _overlap_enlarged(a, b, upsample, overlap_of) if upsample else overlap_of(unit_maps(a), unit_maps(b))


def _mean(loss: Tensor, mask: Tensor | None) -> Tensor:
    """Of (B, N, M) over the valid sentences and all entities; 0 without any."""
    if mask is None:
        return loss.mean()
    # `where`, not a product: a padded sentence may carry a NaN cosine.
    loss = torch.where(mask[..., None], loss, 0)
    return loss.sum() / (mask.sum() * loss.shape[2]).clamp_min(1)


def soft_iou(a: Tensor, b: Tensor) -> Tensor:
    """sum min / sum max of every pair: a (B, N, P), b (B, M, P) in [0, 1] -> (B, N, M).

    min = (a + b - |a - b|) / 2 and max = (a + b + |a - b|) / 2, so one L1 distance serves both, and no (B,
    N, M, P) tensor exists.
    """
    total = a.sum(dim=-1)[..., None] + b.sum(dim=-1)[:, None]
    apart = torch.cdist(a, b, p=1)
    return (total - apart) / (total + apart).clamp_min(DIVISOR_FLOOR)


def hard_iou(a: Tensor, b: Tensor) -> Tensor:
    """The IoU of the regions above HARD_THRESHOLD: one matrix product; no gradient."""
    a, b = ((x > HARD_THRESHOLD).to(x.dtype) for x in (a, b))
    both = a @ b.mT
    union = a.sum(dim=-1)[..., None] + b.sum(dim=-1)[:, None] - both
    return both / union.clamp_min(DIVISOR_FLOOR)


def unit_maps(maps: Tensor) -> Tensor:
    """(..., P) -> the same, each map from 0 to 1; constant maps become 0."""
    low, high = maps.amin(dim=-1, keepdim=True), maps.amax(dim=-1, keepdim=True)
    flat = high - low <= FLAT * high.abs()
    return torch.where(flat, 0, (maps - low) / torch.where(flat, 1, high - low))


def _overlap_enlarged(a: Tensor, b: Tensor, side: int, overlap_of) -> Tensor:
    grid = round(a.shape[-1] ** 0.5)
    if grid**2 != a.shape[-1]:
        raise ValueError(f"maps of {a.shape[-1]} patches are no square grid, cannot enlarge them to {side}")

    def enlarge(maps: Tensor) -> Tensor:
        maps = F.interpolate(maps.unflatten(-1, (grid, grid))[None], (side, side), mode="bilinear")
        return unit_maps(maps[0].flatten(1))

    def overlap(sentences: Tensor, entities: Tensor) -> Tensor:
        return overlap_of(enlarge(sentences)[None], enlarge(entities)[None])[0]

    # One image at a time, enlarged again in the backward pass: (N + M) side^2 numbers live at once, not B times as
    # many, and never N M side^2.
    return torch.stack([checkpoint(overlap, x, y, use_reentrant=False) for x, y in zip(a, b, strict=True)])
