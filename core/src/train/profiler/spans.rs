//! Where events come from: a layer for `tracing`, so that a program is instrumented as it was.

use core::cell::RefCell;
use core::fmt::{self, Write as _};

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, SetGlobalDefaultError};
use tracing::{Event, Metadata, Subscriber, callsite};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::FileSink;
use super::event::{Args, Cut, EventKind, TraceEvent};
use super::session::Desk;
use crate::platform::{Atomic, Ordering, Platform, RwLock, Shared, Std};
use crate::time::{Clock, Instant, SystemClock};

type Pointer<T> = <Std as Platform>::Arc<T>;
type FileDesk = Pointer<Desk<Std, FileSink>>;

/// Brings `tracing`'s spans and events to the sessions that are told of it. Each time a span is
/// left it becomes an event of that duration, on the thread that it was on; what is an event of
/// tracing happens at one moment.
///
/// While no session records, its layer asks for nothing: a span that nobody else wants costs
/// what tracing takes to look at one flag. A span that was made then is not seen later, either.
///
/// ```
/// use selvedge_core::train::profiler::{ProfilerConfig, ProfilerSession, Schedule, Spans};
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let spans = Spans::new();
/// let subscriber = tracing_subscriber::registry().with(spans.layer());
/// // A program would say `.init()`; this is for the present thread.
/// let _present = tracing::subscriber::set_default(subscriber);
///
/// let dir = tempfile::tempdir()?;
/// let config = ProfilerConfig::new(dir.path()).schedule(Schedule::always()).spans(&spans);
/// let profiled = ProfilerSession::run(config, |_| {
///     tracing::info_span!("forward", batch = 7).in_scope(|| 1 + 1)
/// })?;
/// let closed = profiled.trace?;
/// let text = std::fs::read_to_string(dir.path().join(&closed.traces[0]))?;
/// assert!(text.contains(r#""name":"forward""#) && text.contains(r#""args":{"batch":7}"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Spans {
    hub: Pointer<Hub>,
    wanted: Targets,
}

struct Hub {
    /// Tells the spans of one hub from those of another, on a thread that has both.
    number: u32,
    clock: Box<dyn Clock>,
    /// Sessions that record at the moment.
    recording: <Std as Platform>::AtomicU32,
    desks: <Std as Platform>::RwLock<Vec<(u32, FileDesk)>>,
}

impl Spans {
    /// For sessions whose time is the machine's.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Box::new(SystemClock::new()))
    }

    /// For sessions whose time is told by `clock`.
    #[must_use]
    pub fn with_clock(clock: Box<dyn Clock>) -> Self {
        let hub = Hub {
            number: crate::platform::std::process_unique(),
            clock,
            recording: Atomic::new(0),
            desks: RwLock::new(Vec::new()),
        };
        Spans {
            hub: Shared::new(hub),
            wanted: Targets::new().with_default(LevelFilter::TRACE),
        }
    }

    /// Only those up to a level: up to `INFO`, say, the many that libraries tell of themselves are
    /// not in the trace. If not said otherwise, all are.
    #[must_use]
    pub fn up_to(self, level: tracing::Level) -> Self {
        self.only(Targets::new().with_default(level))
    }

    /// Only those that these [`Targets`] want. It is of the layers that are made afterwards.
    ///
    /// ```
    /// use selvedge_core::train::profiler::{Spans, Targets};
    /// use tracing::Level;
    ///
    /// let wanted = Targets::new().with_target("my_trainer", Level::TRACE).with_default(Level::INFO);
    /// let spans = Spans::new().only(wanted);
    /// // The same, as the environment may say it.
    /// let spans = Spans::new().only("info,my_trainer=trace".parse()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn only(self, wanted: Targets) -> Self {
        Spans { wanted, ..self }
    }

    /// The layer, for a subscriber that may have others.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let (hub, wanted) = (self.hub.clone(), self.wanted.clone());
        SpanLayer { hub: hub.clone() }.with_filter(WhileRecording { hub, wanted })
    }

    /// Makes it all that the program's tracing goes to, where the program has nothing else.
    ///
    /// # Errors
    /// If there is a subscriber already: give that one the [`layer`](Self::layer).
    pub fn install(&self) -> Result<(), SetGlobalDefaultError> {
        tracing::subscriber::set_global_default(Registry::default().with(self.layer()))
    }

    /// A clock that tells this one's time.
    pub(super) fn clock(&self) -> Box<dyn Clock> {
        Box::new(HubClock(self.hub.clone()))
    }

    /// What a session is to call when recording begins or ends.
    pub(super) fn watch(&self) -> Box<dyn Fn(bool) + Send + Sync> {
        let hub = self.hub.clone();
        Box::new(move |recording| {
            // ORDERING: Relaxed. It decides whether spans are looked at, and a span at the edge
            // may come out either way.
            match recording {
                true => hub.recording.fetch_add(1, Ordering::Relaxed),
                // ORDERING: Relaxed, as above.
                false => hub.recording.fetch_sub(1, Ordering::Relaxed),
            };
            callsite::rebuild_interest_cache();
        })
    }

    pub(super) fn add(&self, desk: FileDesk) -> Listed {
        let number = crate::platform::std::process_unique();
        RwLock::write(&self.hub.desks).push((number, desk));
        Listed {
            number,
            hub: self.hub.clone(),
        }
    }
}

impl Default for Spans {
    fn default() -> Self {
        Self::new()
    }
}

/// A session is on the hub's list until this is dropped.
pub(super) struct Listed {
    number: u32,
    hub: Pointer<Hub>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let ours = |(number, _): &(u32, FileDesk)| *number == self.number;
        let mut desks = RwLock::write(&self.hub.desks);
        let gone = desks.iter().position(ours).map(|at| desks.remove(at));
        drop(desks);
        drop(gone);
    }
}

impl Hub {
    fn is_recording(&self) -> bool {
        // ORDERING: Relaxed, as in `watch`.
        self.recording.load(Ordering::Relaxed) > 0
    }

    /// Gives the event to every session that records.
    fn tell(&self, event: TraceEvent) {
        let desks = RwLock::read(&self.desks);
        let mut recording = (desks.iter()).filter(|(_, desk)| desk.is_recording());
        if let Some((_, first)) = recording.next() {
            for (_, desk) in recording {
                desk.record(event.clone());
            }
            first.record(event);
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct HubClock(Pointer<Hub>);

impl Clock for HubClock {
    fn now(&self) -> Instant {
        self.0.clock.now()
    }
}

/// Lets nothing through while no session records. It is a filter of our layer alone: what other
/// layers of the same subscriber want, they get.
struct WhileRecording {
    hub: Pointer<Hub>,
    wanted: Targets,
}

impl<S> Filter<S> for WhileRecording {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        self.hub.is_recording() && Filter::enabled(&self.wanted, metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked again whenever recording begins or ends.
        match self.hub.is_recording() {
            true => Filter::<S>::callsite_enabled(&self.wanted, metadata),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        match self.hub.is_recording() {
            true => Filter::<S>::max_level_hint(&self.wanted),
            false => Some(LevelFilter::OFF),
        }
    }
}

thread_local! {
    /// The spans that this thread is in: of which hub, which, since when. A span may be in use
    /// on several threads, so this is no matter of the span's.
    static INSIDE: RefCell<Vec<(u32, u64, Instant)>> = const { RefCell::new(Vec::new()) };
}

struct SpanLayer {
    hub: Pointer<Hub>,
}

impl<S> Layer<S> for SpanLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().replace(SpanArgs(fields.args));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            // The user's code first: a lock is not held while that may panic.
            let mut fields = Fields::default();
            values.record(&mut fields);
            let mut extensions = span.extensions_mut();
            if let Some(SpanArgs(args)) = extensions.get_mut() {
                args.add_all(&fields.args);
            }
        }
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        let entry = (self.hub.number, id.into_u64(), self.hub.clock.now());
        // A thread whose locals are gone is about to end.
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().push(entry));
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let ours =
            |entry: &(u32, u64, Instant)| (entry.0, entry.1) == (self.hub.number, id.into_u64());
        let left = INSIDE.try_with(|inside| {
            let mut inside = inside.borrow_mut();
            let at = inside.iter().rposition(ours)?;
            Some(inside.remove(at).2)
        });
        let (Ok(Some(at)), Some(span)) = (left, context.span(id)) else {
            return;
        };
        if !self.hub.is_recording() {
            return;
        }
        let took = self.hub.clock.now().saturating_since(at);
        let args = span
            .extensions()
            .get::<SpanArgs>()
            .map(|args| args.0.clone());
        self.hub.tell(TraceEvent {
            name: span.name().into(),
            category: span.metadata().target().into(),
            at,
            kind: EventKind::Complete {
                took_ns: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            },
            tid: super::thread_number(),
            args: args.unwrap_or_default(),
        });
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        self.hub.tell(TraceEvent {
            name: fields.message.map_or(metadata.name().into(), Into::into),
            category: metadata.target().into(),
            at: self.hub.clock.now(),
            kind: EventKind::Instant,
            tid: super::thread_number(),
            args: fields.args,
        });
    }
}

/// What a span was given, of any hub's layer.
struct SpanArgs(Args);

#[derive(Default)]
struct Fields {
    args: Args,
    /// What an event says; it is its name.
    message: Option<String>,
}

impl tracing::field::Visit for Fields {
    fn record_f64(&mut self, field: &tracing::field::Field, value: f64) {
        self.args.add(field.name(), value);
    }
    fn record_i64(&mut self, field: &tracing::field::Field, value: i64) {
        self.args.add(field.name(), value);
    }
    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        self.args.add(field.name(), value);
    }
    fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
        self.args.add(field.name(), value);
    }
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        match field.name() {
            "message" => self.message = Some(Cut::of(value)),
            name => self.args.add(name, value),
        }
    }
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        let mut text = Cut::default();
        // It never fails; what is longer than would be written is not kept.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text.into_text());
    }
}
