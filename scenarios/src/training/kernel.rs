//! The gradient, compiled: for the parts that a blend has, with what the general way does twice a
//! row done once.
//!
//! What is *compiled* here is small and real: a kernel is chosen among those that the compiler of
//! this program made for each kind of each part, so that nothing is asked about parts row by row,
//! and all lengths are known. What a row's products and heights are is then computed once, where
//! the general way computes it for the logit and again for the gradient.
//!
//! **Every operation on floats is the same, in the same order, as in [`Blend::gradient_with`].**
//! Ranks may differ in which of them is compiled, and must not differ in a bit: a test compares.

use selvedge_core::train::compiled_step::{Attempt, CompileFailure, StepCompiler};

use super::data::{FEATURES, Row};
use super::model::{
    Blend, HIDDEN, HOST, PARAMETERS, PRODUCTS, PartKind, SLOTS, Sums, probability, products,
    seed_range,
};

/// What a kernel is for: features of a row, and the kind of each slot's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Features of a row.
    pub features: usize,
    /// What each slot's seed does.
    pub parts: [PartKind; SLOTS.len()],
}

/// What the gradient is of.
#[derive(Clone, Copy, Debug)]
pub struct StepInput<'a> {
    /// How the model is put together.
    pub blend: &'a Blend,
    /// Alpha of each slot, as tensors hold it.
    pub alphas: [f64; SLOTS.len()],
    /// The model's.
    pub parameters: &'a [f64],
    /// Of one batch.
    pub rows: &'a [Row],
}

/// The sums and the gradient of a batch.
pub type StepOutput = (Sums, Vec<f64>);

/// Makes kernels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernels;

/// A kernel.
#[derive(Clone, Copy, Debug)]
pub struct Kernel(fn(&StepInput<'_>, &mut [f64]) -> Sums);

impl StepCompiler for Kernels {
    type Key = Shape;
    type Input<'a> = StepInput<'a>;
    type Output = StepOutput;
    type Artefact = Kernel;

    fn eager(&self, _: &Shape, input: &StepInput<'_>) -> StepOutput {
        let mut gradient = vec![0.0; PARAMETERS];
        let (parameters, rows) = (input.parameters, input.rows);
        let sums = (input.blend).gradient_with(&input.alphas, parameters, rows, &mut gradient);
        (sums, gradient)
    }

    fn compile(&self, shape: &Shape, _: &Attempt) -> Result<Kernel, CompileFailure> {
        if shape.features != FEATURES {
            let why = format!(
                "there are kernels for {FEATURES} features, none for {}",
                shape.features
            );
            return Err(CompileFailure::deterministic(why));
        }
        Ok(Kernel(chosen(shape.parts)))
    }

    fn execute(
        &self,
        kernel: &Kernel,
        shape: &Shape,
        input: &StepInput<'_>,
    ) -> Result<StepOutput, CompileFailure> {
        let parts = input.blend.kinds();
        if parts != shape.parts || input.parameters.len() != PARAMETERS {
            let (of, has) = (shape.parts, input.parameters.len());
            let why =
                format!("a kernel for {of:?} and {PARAMETERS} parameters got {parts:?} and {has}");
            return Err(CompileFailure::deterministic(why));
        }
        let mut gradient = vec![0.0; PARAMETERS];
        let sums = kernel.0(input, &mut gradient);
        Ok((sums, gradient))
    }
}

const OUT: u8 = PartKind::Out as u8;
const APART: u8 = PartKind::Apart as u8;
const FROZEN: u8 = PartKind::Frozen as u8;
const LEARNS: u8 = PartKind::Learns as u8;

/// The kernel of these parts.
fn chosen(parts: [PartKind; SLOTS.len()]) -> fn(&StepInput<'_>, &mut [f64]) -> Sums {
    fn second<const FIRST: u8>(kind: PartKind) -> fn(&StepInput<'_>, &mut [f64]) -> Sums {
        match kind {
            PartKind::Out => gradient::<FIRST, OUT>,
            PartKind::Apart => gradient::<FIRST, APART>,
            PartKind::Frozen => gradient::<FIRST, FROZEN>,
            PartKind::Learns => gradient::<FIRST, LEARNS>,
        }
    }
    match parts[0] {
        PartKind::Out => second::<OUT>(parts[1]),
        PartKind::Apart => second::<APART>(parts[1]),
        PartKind::Frozen => second::<FROZEN>(parts[1]),
        PartKind::Learns => second::<LEARNS>(parts[1]),
    }
}

/// Values of one unit of the second slot's seed: its weights, its height at 0, its worth.
const UNIT: usize = FEATURES + 2;

fn gradient<const PRODUCTS_ARE: u8, const HINGES_ARE: u8>(
    input: &StepInput<'_>,
    into: &mut [f64],
) -> Sums {
    let (parameters, mut sums) = (input.parameters, Sums::default());
    let host: &[f64; HOST] = fixed(&parameters[..HOST]);
    let weights: &[f64; PRODUCTS] = fixed(&parameters[seed_range(0)]);
    let units = &parameters[seed_range(1)];
    let (host_into, seeds_into) = into.split_at_mut(HOST);
    let (products_into, hinges_into) = seeds_into.split_at_mut(PRODUCTS);
    for row in input.rows {
        let x = &row.features;
        let (mut multiplied, mut heights) = ([0.0; PRODUCTS], [0.0; HIDDEN]);
        let mut seeds = [0.0; SLOTS.len()];
        if PRODUCTS_ARE != OUT {
            for (product, into) in products(x).zip(&mut multiplied) {
                *into = product;
            }
            seeds[0] = multiplied.iter().zip(weights).map(|(x, w)| x * w).sum();
        }
        if HINGES_ARE != OUT {
            for (unit, height) in units.chunks_exact(UNIT).zip(&mut heights) {
                *height = hinge(fixed::<UNIT>(unit), x);
            }
            let worth = units.chunks_exact(UNIT).map(|unit| unit[FEATURES + 1]);
            seeds[1] = heights.iter().zip(worth).map(|(h, w)| h.max(0.0) * w).sum();
        }
        let added: f64 = input
            .alphas
            .iter()
            .zip(seeds)
            .map(|(a, seed)| a * seed)
            .sum();
        let logit = hinge(host, x) + added;
        let slope = sums.take(logit, row.positive);
        for (x, into) in x.iter().chain(&[1.0]).zip(host_into.iter_mut()) {
            *into += slope * x;
        }
        let of = |slot: usize, kind: u8| match kind {
            LEARNS => Some(input.alphas[slot] * slope),
            APART => Some(probability(logit + seeds[slot]) - f64::from(row.positive)),
            _ => None,
        };
        if let Some(slope) = of(0, PRODUCTS_ARE) {
            for (x, into) in multiplied.iter().zip(products_into.iter_mut()) {
                *into += slope * x;
            }
        }
        if let Some(slope) = of(1, HINGES_ARE) {
            let all = units.chunks_exact(UNIT).zip(heights);
            for ((unit, height), into) in all.zip(hinges_into.chunks_exact_mut(UNIT)) {
                if height > 0.0 {
                    let inward = slope * unit[FEATURES + 1];
                    for (x, into) in x.iter().chain(&[1.0]).zip(into.iter_mut()) {
                        *into += inward * x;
                    }
                    into[FEATURES + 1] += slope * height;
                }
            }
        }
    }
    sums
}

/// What weights give, and what is given without any.
fn hinge<const N: usize>(unit: &[f64; N], x: &[f64; FEATURES]) -> f64 {
    let weighted: f64 = x.iter().zip(unit).map(|(x, w)| x * w).sum();
    weighted + unit[FEATURES]
}

fn fixed<const N: usize>(of: &[f64]) -> &[f64; N] {
    of.try_into()
        .expect("INVARIANT: the parameters were counted before the kernel ran")
}

#[cfg(test)]
mod tests {
    use selvedge_core::ddp::Rank;
    use selvedge_core::time::SystemClock;
    use selvedge_core::train::compiled_step::{CompileConfig, CompiledStep};

    use super::*;
    use crate::training::data::{Shard, bell, stream};

    fn steps() -> CompiledStep<Kernels> {
        let clock = Box::new(SystemClock::new());
        CompiledStep::new(Kernels, CompileConfig::default(), clock).unwrap()
    }

    /// All kinds of both parts, parameters that are large, small and none at all.
    #[test]
    fn compiled_and_eager_are_the_same_to_the_bit() {
        let shard = Shard::draw(5, Rank(3));
        let steps = steps();
        let bits = |(sums, gradient): &StepOutput| -> Vec<u64> {
            let sums = [sums.loss, sums.right, sums.rows];
            let all = sums.iter().chain(gradient.iter());
            all.map(|value| value.to_bits()).collect()
        };
        let mut compared = 0;
        for (round, scale) in [0.0, 1e-3, 0.3, 30.0, 1e200, f64::NAN]
            .into_iter()
            .enumerate()
        {
            let mut rng = stream(7, round as u64);
            let parameters: Vec<f64> = (0..PARAMETERS).map(|_| scale * bell(&mut rng)).collect();
            for blend in Blend::of_every_kind([0.7, 0.2]) {
                let shape = Shape {
                    features: FEATURES,
                    parts: blend.kinds(),
                };
                let mut handle = steps.handle(shape);
                for rows in [&shard.rows()[..1], shard.rows(), &[]] {
                    let input = StepInput {
                        alphas: blend.alphas(),
                        blend: &blend,
                        parameters: &parameters,
                        rows,
                    };
                    let compiled = handle.run(&input);
                    assert!(handle.is_compiled(), "{shape:?}");
                    let eager = handle.run_eagerly(&input);
                    assert_eq!(bits(&compiled), bits(&eager), "{shape:?}, scale {scale}");
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 6 * 16 * 3);
        assert_eq!(steps.counters().attempts, 16);
    }

    #[test]
    fn a_shape_without_a_kernel_runs_eagerly() {
        let steps = steps();
        let blend = Blend::of(&Default::default());
        let mut handle = steps.handle(Shape {
            features: 7,
            parts: blend.kinds(),
        });
        let shard = Shard::draw(5, Rank(0));
        let input = StepInput {
            alphas: blend.alphas(),
            blend: &blend,
            parameters: &[0.0; PARAMETERS],
            rows: shard.rows(),
        };
        let (sums, _) = handle.run(&input);
        assert_eq!(sums.rows, 64.0);
        assert!(!handle.is_compiled());
        assert_eq!(steps.counters().failures(), 1);
    }
}
