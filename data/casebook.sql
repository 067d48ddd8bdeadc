create table meta (key text primary key, value text not null);
create table runs (id text primary key, pid integer not null, begun text not null, facts text not null);
create table attempts (attempt_id text primary key, run text not null, session text not null, state text not null,
  planned text not null, result text not null, seal text not null) without rowid;
create index attempts_live on attempts (run) where state in ('begun', 'dot');
create index attempts_session on attempts (session);
create table replies (session text not null, seq integer not null, stage text not null, command text not null,
  code integer, raw blob not null, anomalies text not null, sent_at text not null, latency_s real not null,
  seal text not null, primary key (session, seq)) without rowid;
create table claims (key text primary key, attempt_id text not null) without rowid;
create table notes (at text not null, text text not null, seal text not null);
