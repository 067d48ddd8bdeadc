-- `other` is the casebook that is taken over; an attempt taken while it ran, hence as interrupted, gives way to its ending
begin immediate;
create temp view later as select attempt_id from other.attempts o join main.attempts m using (attempt_id)
  where o.state = 'final' and not instr(o.result, '"error":"interrupted"') and instr(m.result, '"error":"interrupted"');
delete from claims where attempt_id in (select attempt_id from later);
delete from attempts where attempt_id in (select attempt_id from later);
insert or ignore into attempts select * from other.attempts where state = 'final';
insert or ignore into runs select * from other.runs;
insert or ignore into replies select * from other.replies where session in (select session from main.attempts);
insert or ignore into claims select * from other.claims;
insert into notes select * from other.notes o where not exists
  (select 1 from main.notes n where n.at = o.at and n.text = o.text);
commit;
