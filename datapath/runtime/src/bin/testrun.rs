//! `decide_head`: the decision as a `tc` program, for `BPF_PROG_TEST_RUN` only.
//!
//! A separate object: the datapath does not carry it. It shares the tables' layout and the decision code with
//! `msg_client_request`, and like it copies the head into scratch memory first, so its time is that of the decision there.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]

#[cfg(target_arch = "bpf")]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the entry points' attributes fix their signature"
)]
mod programs {
    use aya_ebpf::EbpfContext as _;
    use aya_ebpf::bindings::BPF_F_MMAPABLE;
    use aya_ebpf::btf_maps::Array;
    use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
    use aya_ebpf::macros::{btf_map, classifier};
    use aya_ebpf::programs::TcContext;
    use kmesh_api::head::Head;
    use kmesh_api::limits::HEAD_MAX;
    use kmesh_api::testrun::{Answer, Question, outcome};
    use kmesh_orchestration::http1::{Length, Outcome, begin_request, request_length, scan};
    use kmesh_orchestration::{Dice, decide};
    use kmesh_runtime::generation;

    const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
    const ETHERNET: u32 = 14;

    #[btf_map]
    static ANSWER: Array<Answer, 1, MMAPABLE> = Array::new();
    #[btf_map]
    static SCRATCH: Array<Head<HEAD_MAX>, 1> = Array::new();

    /// Dice that say what the question says.
    struct Told([u32; 2]);

    impl Dice for Told {
        #[inline(always)]
        fn random(&mut self) -> u32 {
            let Self([first, second]) = *self;
            self.0 = [second, 0];
            first
        }

        #[inline(always)]
        fn turn(&mut self, _: u32) -> u32 {
            self.random()
        }
    }

    #[classifier]
    fn decide_head(ctx: TcContext) -> i32 {
        let answer = decided(&ctx).unwrap_or(Answer {
            outcome: outcome::UNREADABLE,
            ..Answer::default()
        });
        if let Some(slot) = ANSWER.get_ptr_mut(0) {
            // SAFETY: a live array value; test-runs are not concurrent.
            unsafe { *slot = answer };
        }
        0
    }

    #[inline(always)]
    fn decided(ctx: &TcContext) -> Option<Answer> {
        let mut question = Question::default();
        let size = size_of::<Question>() as u32;
        // SAFETY: the buffer is of the size that is asked for.
        let failed =
            unsafe { bpf_skb_load_bytes(ctx.as_ptr(), ETHERNET, (&raw mut question).cast(), size) };
        let head = SCRATCH.get_ptr_mut(0)?;
        let (image, _) = generation::active()?;
        // SAFETY: a live array value; test-runs are not concurrent.
        let head = unsafe { &mut *head };
        if failed != 0 {
            return None;
        }
        // The mask is what lets the verifier see 1..=HEAD_MAX.
        let length = (question.last & (HEAD_MAX as u32 - 1)) + 1;
        // SAFETY: the buffer has HEAD_MAX bytes and `length` is not more.
        let failed = unsafe {
            let to = head.bytes.as_mut_ptr().cast();
            bpf_skb_load_bytes(ctx.as_ptr(), ETHERNET + size, to, length)
        };
        if failed != 0 {
            return None;
        }
        begin_request(head);
        head.length = length;
        let mut answer = Answer::default();
        match scan(image, head) {
            Outcome::Complete => {}
            Outcome::Partial => {
                answer.outcome = outcome::PARTIAL;
                return Some(answer);
            }
            Outcome::Refused(reason) => {
                answer.outcome = reason;
                return Some(answer);
            }
        }
        if let Length::Unknown(reason) = request_length(head) {
            answer.outcome = reason as u32;
            return Some(answer);
        }
        match decide(
            image,
            question.route_config,
            head,
            &mut Told(question.numbers),
        ) {
            Ok(choice) => {
                answer.outcome = outcome::CHOSEN;
                answer.route = choice.route;
                answer.cluster = choice.cluster;
                answer.endpoint = choice.endpoint;
            }
            Err(undecided) => {
                answer.outcome = undecided.reason as u32;
                answer.route = undecided.route;
            }
        }
        Some(answer)
    }
}

#[cfg(target_arch = "bpf")]
#[path = "../epilogue.rs"]
mod epilogue;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
