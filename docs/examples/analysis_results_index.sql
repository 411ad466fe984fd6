-- Analysis results with segmentations, and how many series of them IDC has.
SELECT analysis_result_id, analysis_result_title, count(*) AS series
FROM analysis_results_index JOIN idc_index USING (analysis_result_id)
WHERE Modality = 'SEG'
GROUP BY ALL
ORDER BY series DESC, analysis_result_id;
