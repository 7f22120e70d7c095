//! How a [`ContentModel`] takes a cache in and hands it over, and how it verifies both: every
//! stored token against what its sequence comes to from nothing.
//!
//! A layer that attends to everything keeps its blocks as they are: what is stored is moved. One
//! that slides goes round in its blocks while it runs, and is cached from its first visible token
//! on, so it is written anew.

use selvedge_core::engine::{BlockSlot, NewSequence};
use selvedge_core::{BlockRef, KvBlock, LayerId, RequestId};

use super::memory::Owner;
use super::{ContentBlock, ContentError, ContentModel, Layer, Sequence, Site, held};

impl ContentModel {
    /// Takes a sequence out, to work on it; the caller puts it back.
    pub(super) fn known(
        &mut self,
        call: &'static str,
        request: RequestId,
        found: &mut Vec<ContentError>,
    ) -> Option<Sequence> {
        let sequence = self.sequences.get(&request).filter(|s| !s.extracted);
        if sequence.is_none() {
            found.push(ContentError::Unknown { call, request });
            return None;
        }
        self.sequences.remove(&request)
    }

    /// What is wrong with a block that a sequence is given.
    pub(super) fn unusable(&self, request: RequestId, block: BlockRef) -> Option<ContentError> {
        let (layers, total) = (self.spec.n_layers(), self.memory.blocks());
        let slot = self.memory.slot(block);
        let Some(slot) = slot.filter(|_| block.layer().0 < layers) else {
            return Some(ContentError::NoSuchBlock {
                block,
                layers,
                total,
            });
        };
        slot.owner.map(|owner| ContentError::DoubleOwned {
            request,
            block,
            owner: owner.request,
            held: owner.block,
        })
    }

    /// Looks at everything a new sequence comes with, and changes nothing. Returns what must be
    /// stored of the last reused token, by layer.
    pub(super) fn verify_new(
        &mut self,
        new: &NewSequence<'_, ContentBlock>,
        found: &mut Vec<ContentError>,
    ) -> Vec<u64> {
        let (request, tokens) = (new.request, new.tokens.len() as u32);
        if self.sequences.contains_key(&request) {
            found.push(ContentError::Twice { request });
        }
        if new.reused >= tokens {
            found.push(ContentError::NothingToCompute {
                request,
                reused: new.reused,
                tokens,
            });
        }
        let mut ids: Vec<BlockRef> = new.blocks.to_vec();
        ids.sort_unstable_by_key(|block| block.id());
        for pair in ids.windows(2).filter(|pair| pair[0].id() == pair[1].id()) {
            found.push(ContentError::DoubleOwned {
                request,
                block: pair[1],
                owner: request,
                held: pair[0],
            });
        }
        for &block in new.blocks {
            found.extend(self.unusable(request, block));
        }
        ids.sort_unstable();
        for block in new.prefix.iter() {
            found.extend(self.wrong_with_cached(request, &ids, block));
        }
        let reused = &new.tokens[..(new.reused.min(tokens)) as usize];
        (0..self.spec.n_layers())
            .map(|layer| {
                self.verify_cached_layer(request, LayerId(layer), reused, new.prefix, found)
            })
            .collect()
    }

    /// What is wrong with a cached block as a whole.
    fn wrong_with_cached(
        &self,
        request: RequestId,
        own: &[BlockRef],
        cached: &KvBlock<ContentBlock>,
    ) -> Option<ContentError> {
        let (block, payload) = (cached.block(), cached.data());
        let (said, holds) = (cached.tokens(), payload.stored.len() as u32);
        if payload.block != block {
            return Some(ContentError::LeftItsBlock {
                request,
                payload: payload.block,
                block,
            });
        }
        if own.binary_search(&block).is_err() {
            return Some(ContentError::Foreign { request, block });
        }
        if payload.weights != self.weights.seed {
            return Some(ContentError::OtherWeights {
                request,
                block,
                filled: payload.weights,
                now: self.weights.seed,
            });
        }
        if said != holds {
            return Some(ContentError::WrongLength {
                request,
                block,
                said,
                holds,
            });
        }
        let by = self.memory.slot(block).and_then(|slot| slot.last)?;
        (by != block).then_some(ContentError::Overwritten { request, block, by })
    }

    /// Each token of `reused` that a layer sees must be in its cached blocks.
    fn verify_cached_layer(
        &mut self,
        request: RequestId,
        layer: LayerId,
        reused: &[u32],
        prefix: &[KvBlock<ContentBlock>],
        found: &mut Vec<ContentError>,
    ) -> u64 {
        let site = Site {
            call: "insert",
            request,
            layer,
        };
        let (slides, block_tokens) = (self.ring(layer).is_some(), self.spec.block_tokens());
        let len = reused.len() as u32;
        let mut position = len - held(&self.spec, layer, len);
        let mut chain = self.weights.chain(layer, reused).zip(0..len);
        let mut last = self.weights.start(layer);
        let mut begins = None;
        for cached in prefix.iter().filter(|b| b.block().layer() == layer) {
            let (block, payload) = (cached.block(), cached.data());
            let first = if slides { payload.start } else { 0 };
            let wanted = begins.unwrap_or(first);
            begins = Some(wanted.saturating_add(block_tokens));
            if payload.start != wanted {
                found.push(ContentError::OutOfPlace {
                    call: "insert",
                    request,
                    block,
                    start: payload.start,
                    wanted,
                });
            }
            for (&stored, at) in payload.stored.iter().zip(wanted..) {
                if at < position || at >= len {
                    continue;
                }
                if at > position {
                    break;
                }
                let Some((hash, _)) = chain.find(|&(_, of)| of == at) else {
                    break;
                };
                self.counts.verified += 1;
                found.extend(site.compare(at, block, stored, hash));
                last = hash;
                position += 1;
            }
        }
        if position < len {
            found.push(site.missing(position));
            last = chain.last().map_or(last, |(hash, _)| hash);
        }
        last
    }

    /// Tokens after which a layer that slides begins again in its first block.
    fn ring(&self, layer: LayerId) -> Option<u32> {
        let blocks = self.spec.max_blocks_for_layer(layer)?;
        Some(blocks.saturating_mul(self.spec.block_tokens()))
    }

    /// Takes a new sequence in, and what is cached of it out of its prefix.
    pub(super) fn load(&mut self, new: NewSequence<'_, ContentBlock>, lasts: Vec<u64>) {
        let request = new.request;
        let mut layers: Vec<Layer> = (0..self.spec.n_layers())
            .zip(lasts)
            .map(|(id, last)| Layer {
                id: LayerId(id),
                blocks: Vec::new(),
                ring: self.ring(LayerId(id)),
                last,
                spare: Vec::new(),
            })
            .collect();
        for &block in new.blocks {
            if let Some(layer) = layers.get_mut(block.layer().0 as usize) {
                layer.blocks.push(block);
                self.memory.claim(Owner { request, block });
            }
        }
        let block_tokens = self.spec.block_tokens() as usize;
        for cached in new.prefix.drain(..) {
            self.counts.loaded += 1;
            let block = cached.block();
            let mut payload = cached.into_data();
            let Some(layer) = layers.get(block.layer().0 as usize) else {
                continue;
            };
            if layer.ring.is_none() {
                // What an earlier turn has left behind the prefix is cut off.
                let end = new.reused.saturating_sub(payload.start);
                payload.stored.truncate(end as usize);
                if let Ok(slot) = self.memory.owned_mut(Owner { request, block }) {
                    slot.cells = payload.stored;
                }
                continue;
            }
            for (&stored, position) in payload.stored.iter().zip(payload.start..new.reused) {
                let Some((block, at)) = layer.place(block_tokens as u32, position) else {
                    continue;
                };
                if let Ok(slot) = self.memory.owned_mut(Owner { request, block }) {
                    if slot.cells.len() <= at {
                        slot.cells.reserve_exact(block_tokens - slot.cells.len());
                        slot.cells.resize(at + 1, 0);
                    }
                    slot.cells[at] = stored;
                }
            }
        }
        let sequence = Sequence {
            agent: new.agent,
            tokens: new.tokens.to_vec(),
            prompt: new.tokens.len() as u32,
            computed: new.reused.min(new.tokens.len() as u32),
            max_tokens: new.max_tokens,
            layers,
            extracted: false,
        };
        self.sequences.insert(request, sequence);
    }

    /// What is stored of a sequence, by blocks: verified, and taken out if all is well (or if
    /// findings are only noted).
    pub(super) fn unload(
        &mut self,
        request: RequestId,
        sequence: &Sequence,
        slots: &[BlockSlot],
        found: &mut Vec<ContentError>,
    ) -> Vec<ContentBlock> {
        let before = found.len();
        for layer in &sequence.layers {
            let slots = slots.iter().filter(|slot| slot.block.layer() == layer.id);
            self.verify_layer(request, sequence, layer, slots, found);
        }
        for slot in slots {
            if slot.block.layer().0 >= self.spec.n_layers() {
                found.extend(self.unusable(request, slot.block));
            }
        }
        if found.len() > before && !self.recording {
            return Vec::new();
        }
        // A layer that slides is read as a whole before any of its blocks is written to.
        (slots.iter())
            .map(|slot| self.take_out(request, sequence, slot))
            .collect()
    }

    fn verify_layer<'s>(
        &mut self,
        request: RequestId,
        sequence: &Sequence,
        layer: &Layer,
        slots: impl Iterator<Item = &'s BlockSlot>,
        found: &mut Vec<ContentError>,
    ) {
        let site = Site {
            call: "extract",
            request,
            layer: layer.id,
        };
        let block_tokens = self.spec.block_tokens();
        let mut chain = self.weights.chain(layer.id, &sequence.tokens).zip(0..);
        let mut places = layer.blocks.iter();
        for slot in slots {
            let start = slot.tokens.start;
            let own = match layer.ring {
                Some(_) => places.next().copied(),
                None => layer
                    .place(block_tokens, start)
                    .filter(|of| of.1 == 0)
                    .map(|of| of.0),
            };
            if own != Some(slot.block) {
                let known = layer.blocks.iter().position(|&block| block == slot.block);
                found.push(match known {
                    None => site.not_owned(start, slot.block, None),
                    Some(at) => ContentError::OutOfPlace {
                        call: "extract",
                        request,
                        block: slot.block,
                        start,
                        wanted: at as u32 * block_tokens,
                    },
                });
            }
            for position in slot.tokens.clone() {
                if position >= sequence.computed {
                    found.push(site.missing(position));
                    break;
                }
                let stored = match self.read_back(site, layer, sequence.computed, position) {
                    Ok(stored) => stored,
                    Err(error) => {
                        found.push(error);
                        break;
                    }
                };
                self.counts.verified += 1;
                if let Some((wanted, _)) = chain.find(|&(_, of)| of == position) {
                    found.extend(site.compare(position, slot.block, stored, wanted));
                }
            }
        }
    }

    /// What is stored of a token, or was until the last step took its place.
    fn read_back(
        &self,
        site: Site,
        layer: &Layer,
        computed: u32,
        position: u32,
    ) -> Result<u64, ContentError> {
        match layer.ring {
            Some(ring) if computed - position > ring => {
                let spare = layer.spare.iter().find(|of| of.0 == position);
                spare.map(|of| of.1).ok_or_else(|| site.missing(position))
            }
            _ => self.read(site, layer, position),
        }
    }

    fn take_out(
        &mut self,
        request: RequestId,
        sequence: &Sequence,
        slot: &BlockSlot,
    ) -> ContentBlock {
        let (block, range) = (slot.block, slot.tokens.clone());
        let layer = sequence.layers.get(block.layer().0 as usize);
        let stored = match layer {
            Some(layer) if layer.ring.is_some() => {
                let site = Site {
                    call: "extract",
                    request,
                    layer: layer.id,
                };
                // Whatever could not be read is among the findings.
                let read = |at| {
                    self.read_back(site, layer, sequence.computed, at)
                        .unwrap_or(0)
                };
                range.clone().map(read).collect()
            }
            _ => match self.memory.owned_mut(Owner { request, block }) {
                Ok(slot) => {
                    let mut cells = std::mem::take(&mut slot.cells);
                    cells.truncate(range.len());
                    cells
                }
                Err(_) => Vec::new(),
            },
        };
        ContentBlock {
            block,
            start: range.start,
            weights: self.weights.seed,
            stored,
        }
    }
}
