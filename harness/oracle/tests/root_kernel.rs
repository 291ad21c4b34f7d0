//! The verified bytecode decides like the native code: the same heads, the same dice, the same answer.
#![cfg(feature = "kernel")]

mod support;

use std::time::Instant;

use kmesh_config::{Classes, Identities, compile};
use kmesh_oracle::kernel::Kernel;
use kmesh_oracle::{Native, ScriptedDice, Verdict, generate, many};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use support::root;

const CONFIGS: u32 = 200;
const REQUESTS: u32 = 50;
/// Runs per measurement: few, so that one fits between two interruptions.
const REPEAT: u32 = 100;
/// Measurements in a row, of which the fastest counts: other work on this machine only ever adds.
const MEASUREMENTS: u32 = 20;
/// Turns that each configuration has.
const ROUNDS: u32 = 50;

#[test]
fn kernel_decisions_equal_native_ones() {
    if !root("kernel_decisions_equal_native_ones") {
        return;
    }
    let mut kernel = Kernel::load().unwrap();
    let mut runner = TestRunner::deterministic();
    let (configs, requests) = (generate::config(), generate::request());
    let mut compared = 0;
    for _ in 0..CONFIGS {
        let config = configs.new_tree(&mut runner).unwrap().current();
        let compiled = compile(&config, &mut Identities::default(), Classes::default()).unwrap();
        kernel.configure(&compiled.image);
        let mut native = Native::new(&compiled.image);
        for number in 0..REQUESTS {
            let request = requests.new_tree(&mut runner).unwrap().current();
            let mut bytes = request.to_bytes();
            if number % 10 == 9 {
                // A head cut short or with a foreign byte in it is judged alike, too.
                let at = number as usize * 7 % bytes.len();
                if number % 20 == 9 {
                    bytes.truncate(at.max(1));
                } else {
                    bytes[at] = b'\x01';
                }
            }
            let numbers = [number.wrapping_mul(0x9e37_79b1), number];
            let listener = number % compiled.image.route_configs.len().min(2) as u32;
            let expected = native.judge(listener, &bytes, &mut ScriptedDice::new(numbers));
            let got = kernel.judge(listener, &bytes, numbers).unwrap();
            assert_eq!(got, expected, "{request} on {config:#?}");
            compared += 1;
        }
    }
    assert_eq!(compared, CONFIGS * REQUESTS);
}

#[test]
fn the_cost_does_not_grow_with_the_routes() {
    if !root("the_cost_does_not_grow_with_the_routes") {
        return;
    }
    let mut kernel = Kernel::load().unwrap();
    let mut measured = Vec::new();
    for routes in [10, 10_000] {
        let begun = Instant::now();
        let config = many::config(1, routes);
        let compiled = compile(&config, &mut Identities::default(), Classes::default()).unwrap();
        kernel.configure(&compiled.image);
        println!(
            "{routes} routes compiled and loaded in {:?}, an image of {} bytes",
            begun.elapsed(),
            size_of_val(&*compiled.image)
        );
        let mut native = Native::new(&compiled.image);
        let literal = many::request(1, routes, 250).to_bytes();
        let expression = many::request_by_expression(1, routes, 250).to_bytes();
        for (bytes, wanted) in [(&literal, routes - 1), (&expression, routes - 2)] {
            assert_eq!(bytes.len(), 250);
            let Verdict::Chosen(choice) = native.judge(0, bytes, &mut ScriptedDice::default())
            else {
                panic!("{routes} routes: not routed");
            };
            assert_eq!(choice.route as usize, wanted);
        }
        measured.push((compiled.image, [literal, expression]));
    }
    // In turns, because a virtual CPU is slow for seconds at a time.
    let mut fastest = [u128::MAX; 4];
    for _ in 0..ROUNDS {
        for (at, (image, heads)) in measured.iter().enumerate() {
            kernel.configure(image);
            for (head, fastest) in heads.iter().zip(&mut fastest[2 * at..]) {
                for _ in 0..MEASUREMENTS {
                    let time = kernel.time(0, head, REPEAT).unwrap().as_nanos();
                    *fastest = time.min(*fastest);
                }
            }
        }
    }
    println!(
        "decision on a 250-byte head: {} ns with 10 routes, {} ns with 10,000; by expression {} and {} ns; verified {:?}",
        fastest[0],
        fastest[2],
        fastest[1],
        fastest[3],
        kernel.verified_instructions().unwrap()
    );
    assert!(
        fastest[2] * 2 < fastest[0] * 3 && fastest[3] * 2 < fastest[1] * 3,
        "{fastest:?} ns: the cost grows with the routes"
    );
}
