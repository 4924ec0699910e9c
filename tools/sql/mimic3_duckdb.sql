-- What `regimen import mimic3-heparin` reads, out of a DuckDB database of MIMIC-III: seven CSV files
-- in the working directory. CHARTEVENTS and LABEVENTS of stays and patients with heparin only.
--   mkdir export && cd export && duckdb -readonly ../mimic3.db < ../tools/sql/mimic3_duckdb.sql
--   regimen import mimic3-heparin --dir export -o heparin.h5
-- Item ids: 30025 CareVue, 225152 MetaVision. Times must be timestamps or text like
-- 2101-10-20 19:08:00; a fraction of a second is dropped.
COPY (SELECT subject_id, gender, dob FROM patients) TO 'PATIENTS.csv' (HEADER, DELIMITER ',');

COPY (SELECT subject_id, hadm_id, admittime, dischtime, deathtime, hospital_expire_flag
      FROM admissions) TO 'ADMISSIONS.csv' (HEADER, DELIMITER ',');

COPY (SELECT icustay_id, subject_id, hadm_id, dbsource, intime, outtime FROM icustays)
  TO 'ICUSTAYS.csv' (HEADER, DELIMITER ',');

COPY (SELECT icustay_id, charttime, itemid, amount, amountuom, rate, rateuom
      FROM inputevents_cv WHERE itemid = 30025) TO 'INPUTEVENTS_CV.csv' (HEADER, DELIMITER ',');

COPY (SELECT icustay_id, starttime, endtime, itemid, amount, amountuom, rate, rateuom,
             patientweight, statusdescription
      FROM inputevents_mv WHERE itemid = 225152) TO 'INPUTEVENTS_MV.csv' (HEADER, DELIMITER ',');

CREATE TEMPORARY TABLE heparin_stays AS
  SELECT icustay_id FROM inputevents_cv WHERE itemid = 30025 AND icustay_id IS NOT NULL
  UNION SELECT icustay_id FROM inputevents_mv WHERE itemid = 225152 AND icustay_id IS NOT NULL;

COPY (SELECT subject_id, hadm_id, itemid, charttime, value, valuenum, valueuom FROM labevents
      WHERE subject_id IN (SELECT subject_id FROM icustays JOIN heparin_stays USING (icustay_id)))
  TO 'LABEVENTS.csv' (HEADER, DELIMITER ',');

COPY (SELECT icustay_id, itemid, charttime, value, valuenum, valueuom, error FROM chartevents
      WHERE icustay_id IN (SELECT icustay_id FROM heparin_stays))
  TO 'CHARTEVENTS.csv' (HEADER, DELIMITER ',');
