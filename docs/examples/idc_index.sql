-- Size of each modality in a collection, and how many patients have it.
SELECT Modality, count(DISTINCT PatientID) AS patients, count(*) AS series, round(sum(series_size_MB)) AS MB
FROM idc_index
WHERE collection_id = 'nlst'
GROUP BY Modality
ORDER BY series DESC;

-- Addresses of CT series of the chest that may be used commercially, for `s5cmd --no-sign-request cp`.
SELECT series_aws_url
FROM idc_index
WHERE Modality = 'CT' AND BodyPartExamined = 'CHEST' AND license_short_name IN ('CC BY 3.0', 'CC BY 4.0')
ORDER BY series_aws_url
LIMIT 10;
