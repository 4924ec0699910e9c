-- What `regimen import mimic3-heparin` reads, out of a PostgreSQL database of MIMIC-III (as built by
-- mimic-code): seven CSV files. CHARTEVENTS and LABEVENTS of stays and patients with heparin only.
--   mkdir export && psql -d mimic -v dir=export -f tools/sql/mimic3_postgres.sql
--   regimen import mimic3-heparin --dir export -o heparin.h5
-- Other schema: -v schema=NAME. Item ids: 30025 CareVue, 225152 MetaVision.
\set ON_ERROR_STOP on
\if :{?schema}
\else
\set schema mimiciii
\endif
SET search_path TO :schema;
SET datestyle TO ISO;

\set file :dir '/PATIENTS.csv'
COPY (SELECT subject_id, gender, dob FROM patients) TO STDOUT WITH (FORMAT csv, HEADER) \g :file

\set file :dir '/ADMISSIONS.csv'
COPY (SELECT subject_id, hadm_id, admittime, dischtime, deathtime, hospital_expire_flag FROM admissions) TO STDOUT WITH (FORMAT csv, HEADER) \g :file

\set file :dir '/ICUSTAYS.csv'
COPY (SELECT icustay_id, subject_id, hadm_id, dbsource, intime, outtime FROM icustays) TO STDOUT WITH (FORMAT csv, HEADER) \g :file

\set file :dir '/INPUTEVENTS_CV.csv'
COPY (SELECT icustay_id, charttime, itemid, amount, amountuom, rate, rateuom FROM inputevents_cv WHERE itemid = 30025) TO STDOUT WITH (FORMAT csv, HEADER) \g :file

\set file :dir '/INPUTEVENTS_MV.csv'
COPY (SELECT icustay_id, starttime, endtime, itemid, amount, amountuom, rate, rateuom, patientweight, statusdescription FROM inputevents_mv WHERE itemid = 225152) TO STDOUT WITH (FORMAT csv, HEADER) \g :file

CREATE TEMPORARY TABLE heparin_stays AS
  SELECT icustay_id FROM inputevents_cv WHERE itemid = 30025 AND icustay_id IS NOT NULL
  UNION SELECT icustay_id FROM inputevents_mv WHERE itemid = 225152 AND icustay_id IS NOT NULL;

\set file :dir '/LABEVENTS.csv'
COPY (SELECT subject_id, hadm_id, itemid, charttime, value, valuenum, valueuom FROM labevents WHERE subject_id IN (SELECT subject_id FROM icustays JOIN heparin_stays USING (icustay_id))) TO STDOUT WITH (FORMAT csv, HEADER) \g :file

\set file :dir '/CHARTEVENTS.csv'
COPY (SELECT icustay_id, itemid, charttime, value, valuenum, valueuom, error FROM chartevents WHERE icustay_id IN (SELECT icustay_id FROM heparin_stays)) TO STDOUT WITH (FORMAT csv, HEADER) \g :file
