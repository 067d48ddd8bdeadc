begin immediate;
create table if not exists meta (key text primary key, value text not null);
create table if not exists runs (id text primary key, pid integer not null, begun text not null, facts text not null);
create table if not exists attempts (attempt_id text primary key, run text not null, session text not null, state text not null,
  planned text not null, result text not null, seal text not null) without rowid;
create index if not exists attempts_live on attempts (run) where state in ('begun', 'dot');
create index if not exists attempts_session on attempts (session);
create table if not exists replies (session text not null, seq integer not null, stage text not null, command text not null,
  code integer, raw blob not null, anomalies text not null, sent_at text not null, latency_s real not null,
  seal text not null, primary key (session, seq)) without rowid;
create table if not exists claims (key text primary key, attempt_id text not null) without rowid;
create table if not exists notes (at text not null, text text not null, seal text not null);
insert or ignore into meta values ('version', '1');
commit;
