//! What must not compile (engine C of the catalogue): blocks cannot be changed in place, and a
//! payload cannot be taken for another type. The compiler's own words are kept beside each
//! case, so that it fails for the right reason.

#[test]
fn what_the_tickets_forbid_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compile_fail/right.rs");
    cases.compile_fail("tests/compile_fail/add_block.rs");
    cases.compile_fail("tests/compile_fail/change_in_place.rs");
    cases.compile_fail("tests/compile_fail/replace_block.rs");
    cases.compile_fail("tests/compile_fail/wrong_payload.rs");
    cases.compile_fail("tests/compile_fail/lease_twice.rs");
}
