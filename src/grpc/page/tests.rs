//! Tokens and cuts, on injected time.

use super::*;

fn cut(revision: i64, arguments: u64) -> Arc<Cut> {
    Arc::new(Cut::new(Revision::new(revision), Vec::new(), arguments))
}

fn token(cut: &Cut) -> Token {
    Token::new("epoch", cut, ProcessName::new("web-1").unwrap())
}

#[test]
fn a_token_is_read_back_for_its_own_arguments_only() {
    let token = token(&cut(7, 42));
    let text = token.encode();
    assert!(
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    );
    assert_eq!(Token::decode(&text, 42), Ok(token));
    assert!(matches!(
        Token::decode(&text, 43),
        Err(PageError::Invalid(_))
    ));
}

#[test]
fn a_broken_token_is_refused_whatever_is_broken() {
    let text = token(&cut(7, 42)).encode();
    for end in 0..text.len() {
        let cut = Token::decode(&text[..end], 42);
        assert!(matches!(cut, Err(PageError::Invalid(_))), "{cut:?}");
    }
    for broken in ["", "%%%", "e30", "MS8vLy8v", &format!("{text}=")] {
        assert!(
            matches!(Token::decode(broken, 42), Err(PageError::Invalid(_))),
            "{broken}"
        );
    }
}

#[test]
fn a_cut_is_kept_for_a_minute_after_its_last_use() {
    let (pages, start) = (Pages::default(), Instant::now());
    let (kept, token) = (cut(7, 42), token(&cut(7, 42)));
    pages.keep(&kept, start);
    for seconds in [59, 118, 177] {
        let at = start + Duration::from_secs(seconds);
        assert!(Arc::ptr_eq(
            &pages.resume(&token, "epoch", at).unwrap(),
            &kept
        ));
    }
    let late = start + Duration::from_secs(177 + 60);
    assert_eq!(
        pages.resume(&token, "epoch", late).unwrap_err(),
        PageError::Expired
    );
}

#[test]
fn a_cut_of_another_run_is_expired() {
    let (pages, now) = (Pages::default(), Instant::now());
    pages.keep(&cut(7, 42), now);
    let token = token(&cut(7, 42));
    assert_eq!(
        pages.resume(&token, "other", now).unwrap_err(),
        PageError::Expired
    );
}

#[test]
fn cuts_are_bounded_and_the_one_used_longest_ago_goes() {
    let (pages, now) = (Pages::default(), Instant::now());
    for revision in 0..i64::try_from(CUTS_MAX).unwrap() {
        pages.keep(&cut(revision, 1), now);
    }
    pages.resume(&token(&cut(0, 1)), "epoch", now).unwrap();
    pages.keep(&cut(1000, 1), now);
    pages.resume(&token(&cut(0, 1)), "epoch", now).unwrap();
    let gone = token(&cut(1, 1));
    assert_eq!(
        pages.resume(&gone, "epoch", now).unwrap_err(),
        PageError::Expired
    );
}

#[test]
fn sizes_have_a_default_and_a_bound() {
    assert_eq!(size(0), Ok(PAGE_ENTRIES_DEFAULT));
    assert_eq!(size(7), Ok(7));
    assert_eq!(size(i32::MAX), Ok(PAGE_ENTRIES_MAX));
    assert_eq!(size(-1).unwrap_err()[0].field, "page_size");
}
