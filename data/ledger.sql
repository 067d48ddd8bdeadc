create table if not exists visits (id integer primary key, receiver text not null, ip text not null,
  at real not null, ended real, refused integer not null default 0, stop integer not null default 0,
  pid integer not null);
create index if not exists visits_receiver on visits (receiver, at);
create index if not exists visits_ip on visits (ip, at);
