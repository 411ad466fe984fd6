-- When the series of each IDC release came.
SELECT idc_version, version_timestamp, count(*) AS series
FROM version_metadata_index JOIN idc_index ON series_init_idc_version = idc_version
GROUP BY ALL
ORDER BY idc_version;
